import type { DataSource } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { lastingExpression } from './exact-expression.js';
import { referredPath } from '../../entities/foreign-keys.js';

/** Columns of a junction, read as values of the columns that they refer to. */
export class JunctionColumns {
  constructor(
    private readonly columns: readonly ColumnMetadata[],
    private readonly prefix: string,
    private readonly dataSource: DataSource,
  ) {}

  /** What to select. */
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

  /** Of a row that {@link list} has selected: values by the paths of the columns referred to. */
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

/** A column of a junction has the type of the one that it refers to, which may refer to yet another. */
export function referredType(column: ColumnMetadata): ColumnMetadata {
  const { referencedColumn } = column;
  return referencedColumn ? (referencedColumn.referencedColumn ?? referencedColumn) : column;
}
