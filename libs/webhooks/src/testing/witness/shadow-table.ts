import type { EntityMetadata } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { rootOf } from '../../entities/single-table.js';
import { tupleHash } from '../../hash.js';

/**
 * Maximum length of a table's name in the name of its shadow. Databases limit names to 63 or 64 characters, and the
 * name of the shadow also has a prefix, a hash and suffixes.
 */
const TABLE_NAME_LENGTH = 30;
const HASH_LENGTH = 8;

/**
 * A table whose changes the witness records, and its shadow. The shadow is a table with columns of the same types. It stores the row before
 * and the row after each change. The database copies the values without conversion. So the witness reads the shadow in the same way as the
 * table.
 */
export interface ShadowedTable {
  /** The entity. For a single table: the root entity. */
  readonly metadata: EntityMetadata;
  readonly definitions: readonly EntityDefinition[];
  readonly columns: readonly ColumnMetadata[];
  /** The unescaped name of the shadow. The names of triggers, function and sequence begin with it. */
  readonly shadow: string;
}

/** Columns that each shadow has in addition to the columns of its table. */
export const SHADOW_COLUMNS = {
  seq: 'webhook_witness_seq',
  op: 'webhook_witness_op',
  image: 'webhook_witness_image',
  transaction: 'webhook_witness_transaction',
} as const;

/** One shadow for each table that has entities with webhooks. */
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

/**
 * The stored columns. In a single table, TypeORM's root entity has every column of its children, and may have a column
 * more than once.
 */
function columnsOf({ columns }: EntityMetadata): ColumnMetadata[] {
  const stored = columns.filter(({ isVirtualProperty }) => !isVirtualProperty);
  return [...new Map(stored.map((column) => [column.databaseName, column])).values()];
}
