import type { DataSource } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { mayLoseDigitsOnSqlite, type ColumnMetadata } from '../../entities/canonical-value.js';
import { typingColumn } from '../../entities/foreign-keys.js';
import { lastingExpression } from './exact-expression.js';
import type { ImageColumns } from './image-columns.js';

/** A value that an image of a trigger must hold. */
export interface TriggerValue {
  /** A property of the entity, or a foreign key that is a column of the table only. */
  readonly column: ColumnMetadata;
  readonly isNullable: boolean;
  /** Whether the exact form of the value is needed, too, because the driver may change the value. */
  readonly needsExact: boolean;
}

/** The values of a row that an event needs. On PostgreSQL spatial columns are left out, because an image does not contain their text. */
export function triggerValuesOf({ columns, relations }: ImageColumns, dataSource: DataSource): TriggerValue[] {
  const { driver, options } = dataSource;
  const dialect = dialectOf(options.type);
  const unread = dialect === 'postgres' ? driver.spatialTypes : [];
  const byName = new Map<string, TriggerValue>();
  const add = (column: ColumnMetadata, typed: ColumnMetadata) => {
    if (unread.includes(typed.type)) return;
    const { databaseName, isNullable } = column;
    const isChanged = lastingExpression(typed, '', dataSource) !== null;
    const needsExact = dialect === 'sqlite' ? mayLoseDigitsOnSqlite(typed) : isChanged;
    byName.set(databaseName, { column, isNullable, needsExact });
  };
  for (const column of columns.filter(({ isVirtualProperty }) => !isVirtualProperty)) add(column, column);
  for (const { joinColumns } of relations) for (const join of joinColumns) add(join, typingColumn(join));
  return [...byName.values()];
}
