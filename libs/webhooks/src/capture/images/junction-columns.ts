import type { DataSource } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { lastingExpression } from '../plans/exact-expression.js';
import { referredPath } from '../../entities/foreign-keys.js';

/** The columns of a junction. Their values are read with the types of the referenced columns. */
export class JunctionColumns {
  constructor(
    private readonly columns: readonly ColumnMetadata[],
    private readonly prefix: string,
    private readonly dataSource: DataSource,
  ) {}

  /** The select list, separated by commas. */
  get list(): string {
    const { driver } = this.dataSource;
    return this.columns
      .map((column, n) => {
        const name = driver.escape(column.databaseName);
        const exact = lastingExpression(referredType(column), name, this.dataSource);
        return `${exact ?? name} AS ${driver.escape(`${this.prefix}${n}`)}`;
      })
      .join(', ');
  }

  /** The values of a row that was selected with {@link list}. The keys are the property paths of the referenced columns. */
  values(row: Readonly<Record<string, unknown>>): Map<string, unknown> {
    const { driver } = this.dataSource;
    return new Map(
      this.columns.map((column, n) => [
        referredPath(column),
        driver.prepareHydratedValue(row[`${this.prefix}${n}`], referredType(column)) as unknown,
      ]),
    );
  }
}

/**
 * The column that gives the type: the referenced column. A referenced column may itself reference another column; then that other column
 * gives the type.
 */
export function referredType(column: ColumnMetadata): ColumnMetadata {
  const { referencedColumn } = column;
  return referencedColumn ? (referencedColumn.referencedColumn ?? referencedColumn) : column;
}
