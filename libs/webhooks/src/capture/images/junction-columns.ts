import type { DataSource } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { lastingExpression } from '../plans/exact-expression.js';
import { referredPath } from '../../entities/foreign-keys.js';

/** Columns of a junction, read with the types of the columns that they reference. */
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

  /** The values of a row that was selected with {@link list}, by the property paths of the referenced columns. */
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

/** The column that gives the type: the referenced column, which may reference another column in turn. */
export function referredType(column: ColumnMetadata): ColumnMetadata {
  const { referencedColumn } = column;
  return referencedColumn ? (referencedColumn.referencedColumn ?? referencedColumn) : column;
}
