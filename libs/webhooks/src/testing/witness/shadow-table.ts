import type { EntityMetadata } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { rootOf } from '../../entities/single-table.js';
import { tupleHash } from '../../hash.js';

/** Names of databases end at 63 or 64 characters. */
const TABLE_NAME_LENGTH = 30;
const HASH_LENGTH = 8;

/**
 * A table whose changes the witness writes down, and its shadow: a table with columns of the same types, which holds the row before
 * and the row after each change. A value is copied by the database and never converted, so the shadow is read as the table is.
 */
export interface ShadowedTable {
  /** Of the entity, or of the root of those that share the table. */
  readonly metadata: EntityMetadata;
  readonly definitions: readonly EntityDefinition[];
  readonly columns: readonly ColumnMetadata[];
  /** Plain name of the shadow, of its triggers and, on PostgreSQL, of its function. */
  readonly shadow: string;
}

/** Columns of each shadow that its table does not have. */
export const SHADOW_COLUMNS = {
  seq: 'webhook_witness_seq',
  op: 'webhook_witness_op',
  image: 'webhook_witness_image',
  transaction: 'webhook_witness_transaction',
} as const;

/** One for each table of an entity with webhooks. */
export function shadowedTables(definitions: readonly EntityDefinition[]): ShadowedTable[] {
  const byPath = new Map<string, EntityDefinition[]>();
  for (const definition of definitions) {
    const { tablePath } = definition.metadata;
    byPath.set(tablePath, [...(byPath.get(tablePath) ?? []), definition]);
  }
  return [...byPath].map(([path, sharing]) => {
    const metadata = rootOf((sharing[0] as EntityDefinition).metadata);
    const hash = tupleHash('witness', path).toString('hex').slice(0, HASH_LENGTH);
    const shadow = `webhook_witness_${metadata.tableName.slice(0, TABLE_NAME_LENGTH)}_${hash}`;
    return { metadata, definitions: sharing, columns: columnsOf(metadata), shadow };
  });
}

/** In a single table TypeORM gives the root every column of its children. */
function columnsOf({ columns }: EntityMetadata): ColumnMetadata[] {
  const stored = columns.filter(({ isVirtualProperty }) => !isVirtualProperty);
  return [...new Map(stored.map((column) => [column.databaseName, column])).values()];
}
