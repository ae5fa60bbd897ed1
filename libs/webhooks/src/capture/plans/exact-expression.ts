import type { DataSource } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { mayLoseDigitsOnSqlite, valueKindOf, type ColumnMetadata } from '../../entities/canonical-value.js';
import { INTERVAL_FORMAT } from '../../entities/database-text.js';

/** Whether the value that TypeORM reads from a column may differ from the stored value. */
export function isReadInexactly(column: ColumnMetadata, dataSource: DataSource): boolean {
  return exactExpression(column, '', dataSource) !== null;
}

/** The SQL that selects a value without loss. `null` if the driver also reads the plain column without loss. */
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

/** Handles types whose text depends on settings of the session. Also handles decimals that the driver would turn into numbers. */
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
  // Use CAST and not `::`, because a query builder would take `:numeric` for a parameter.
  if (type === 'money') return `CAST(CAST(${value} AS numeric${list}) AS text${list})`;
  return isArray ? `CAST(${value} AS text[])` : null;
}

/** As {@link exactExpression}, but for a cached statement. The expression stays correct if the time zone of the process changes. */
export function lastingExpression(column: ColumnMetadata, value: string, dataSource: DataSource): string | null {
  const isDay = column.type === 'date' && !column.utc && dialectOf(dataSource.options.type) === 'mysql';
  return isDay ? `CAST(${value} AS CHAR)` : exactExpression(column, value, dataSource);
}

/**
 * mysql2 turns a day into a Date in the zone of its `timezone` option. TypeORM turns that Date back into a day in the zone of the process.
 * If the zones differ, the two days may differ.
 */
function readsDatesInAnotherZone({ options }: DataSource): boolean {
  const { timezone = 'local' } = options as { timezone?: string };
  if (timezone === 'local') return false;
  const year = new Date().getFullYear();
  return (
    [0, 6].some((month) => new Date(year, month, 1).getTimezoneOffset() !== 0) || !/^(?:Z|[+-]00:?00)$/.test(timezone)
  );
}
