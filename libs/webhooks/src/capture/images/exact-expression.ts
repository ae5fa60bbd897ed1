import type { DataSource } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { mayLoseDigitsOnSqlite, valueKindOf, type ColumnMetadata } from '../../entities/canonical-value.js';
import { INTERVAL_FORMAT } from '../../entities/database-text.js';

/** Whether what TypeORM reads of a column may differ from what stands in it. */
export function isReadInexactly(column: ColumnMetadata, dataSource: DataSource): boolean {
  return exactExpression(column, '', dataSource) !== null;
}

/** How a value is selected so that the driver cannot spoil it; `null` where it does not. */
export function exactExpression(column: ColumnMetadata, value: string, dataSource: DataSource): string | null {
  switch (dialectOf(dataSource.options.type)) {
    case 'sqlite':
      return mayLoseDigitsOnSqlite(column)
        ? `CASE WHEN typeof(${value}) = 'integer' THEN CAST(${value} AS TEXT) ELSE ${value} END`
        : null;
    case 'mysql':
      return column.type === 'date' && !column.utc && readsDatesInAnotherZone(dataSource)
        ? `CAST(${value} AS CHAR)`
        : null;
    case 'postgres':
      return exactOnPostgres(column, value);
  }
}

/** What shows in another form in another session, or what the driver makes numbers of. */
function exactOnPostgres(column: ColumnMetadata, value: string): string | null {
  const { type, isArray } = column;
  const kind = valueKindOf(column);
  if (kind === 'duration') {
    const formatted = (one: string) => `to_char(${one}, '${INTERVAL_FORMAT}')`;
    if (!isArray) return formatted(value);
    return `CASE WHEN ${value} IS NOT NULL THEN ARRAY(SELECT ${formatted('l.item')} FROM unnest(${value}) WITH ORDINALITY l (item, n) ORDER BY l.n) END`;
  }
  if (kind !== 'decimal') return null;
  const list = isArray ? '[]' : '';
  // Not `::`, which a query builder takes for a parameter.
  if (type === 'money') return `CAST(CAST(${value} AS numeric${list}) AS text${list})`;
  return isArray ? `CAST(${value} AS text[])` : null;
}

/** As {@link exactExpression}, for a statement that is kept: right in every zone that the process may be in by then. */
export function lastingExpression(column: ColumnMetadata, value: string, dataSource: DataSource): string | null {
  const isDay = column.type === 'date' && !column.utc && dialectOf(dataSource.options.type) === 'mysql';
  return isDay ? `CAST(${value} AS CHAR)` : exactExpression(column, value, dataSource);
}

/** mysql2 makes a Date of a day in the zone of its option, TypeORM the day of that Date in the process's: another one. */
function readsDatesInAnotherZone({ options }: DataSource): boolean {
  const { timezone = 'local' } = options as { timezone?: string };
  if (timezone === 'local') return false;
  const year = new Date().getFullYear();
  return (
    [0, 6].some((month) => new Date(year, month, 1).getTimezoneOffset() !== 0) || !/^(?:Z|[+-]00:?00)$/.test(timezone)
  );
}
