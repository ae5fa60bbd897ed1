import type { DataSource, EntityMetadata } from 'typeorm';
import { escapedPath } from '../../dialect.js';
import { valueKindOf, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { ImageSelect } from './image-select.js';

/**
 * The statement text that reads rows of one entity by their keys. The text is cached, because a query builder takes longer to compose the
 * text than the database takes to answer the statement.
 */
export interface PlainRead {
  /** The statement up to the list of keys. */
  readonly text: string;
  /** The ORDER BY clause for reads that lock. With this clause the rows are locked in the order of the primary key. */
  readonly order: string;
  readonly key: ColumnMetadata;
  /** The aliases of the selected values. */
  readonly aliases: readonly string[];
}

const PREFIX = 'c';
/** Kinds of keys whose value can be sent as a parameter without conversion. */
const KEY_KINDS: ReadonlySet<string> = new Set(['any', 'bigint']);

/**
 * Returns `null` for entities that need the query builder. Such entities have a key of several columns or with a transformer, a spatial or
 * virtual column, or links.
 */
export function plainReadOf(
  { primaryColumns, tablePath }: EntityMetadata,
  select: ImageSelect,
  { driver }: DataSource,
): PlainRead | null {
  const [key, ...others] = primaryColumns;
  if (!select.isWhole || !key || others.length) return null;
  if (key.isVirtual || key.transformer || !KEY_KINDS.has(valueKindOf(key))) return null;
  const alias = driver.escape('e');
  const list = select.list(PREFIX, `${alias}.`);
  const name = `${alias}.${driver.escape(key.databaseName)}`;
  const text = `SELECT ${list} FROM ${escapedPath(tablePath, driver)} ${alias} WHERE ${name} IN`;
  return { text, order: ` ORDER BY ${name}`, key, aliases: select.names(PREFIX) };
}
