import type { DataSource, EntityMetadata } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import { dialectOf } from '../../dialect.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { rootOf } from '../../entities/single-table.js';

/** A table whose changes are captured by triggers. */
export interface TriggerTable {
  /** The table path of TypeORM. Each image stores this path. */
  readonly path: string;
  /** The metadata of the entity, or of the parent entity in a single table. */
  readonly metadata: EntityMetadata;
  /** One definition. In a single table, one definition for each captured entity. */
  readonly definitions: readonly EntityDefinition[];
  /** The columns of an image on MySQL, MariaDB and SQLite. On PostgreSQL an image has all columns of the table. */
  readonly columns: readonly ColumnMetadata[];
  /**
   * Whether changes of one row in one transaction may be merged. Then each image stores a key that identifies the row and the transaction.
   */
  readonly isMerged: boolean;
}

/**
 * The tables that need triggers.
 *
 * @throws ConfigurationError `TABLE_CAPTURED_TWICE` if entities share a table, but not the inheritance hierarchy and the `capture` mode
 * @throws ConfigurationError `COLUMN_NOT_CAPTURED` if an image cannot store a column of the payload
 * @throws ConfigurationError `DATABASE_NOT_CAPTURED` if a table is in an attached database of SQLite
 */
export function triggerTables(all: readonly EntityDefinition[], dataSource: DataSource): TriggerTable[] {
  const byPath = new Map<string, EntityDefinition[]>();
  for (const definition of all) {
    const { tablePath } = definition.metadata;
    byPath.set(tablePath, [...(byPath.get(tablePath) ?? []), definition]);
  }
  const tables: TriggerTable[] = [];
  for (const [path, definitions] of byPath) {
    const [first] = definitions;
    if (!first || definitions.every(({ capture }) => capture === 'orm')) continue;
    const metadata = rootOf(first.metadata);
    if (definitions.some((other) => rootOf(other.metadata) !== metadata || other.capture === 'orm')) {
      throw new ConfigurationError(
        'TABLE_CAPTURED_TWICE',
        `${definitions.map((definition) => definition.metadata.name).join(' and ')} share the table ${path}, and triggers capture the table as a whole. Entities that share a table must belong to one inheritance hierarchy and have the same \`capture\`. Use capture: 'orm' for all of them, or give each entity its own table.`,
      );
    }
    refuseAttached(metadata, dataSource);
    tables.push({
      path,
      metadata,
      definitions,
      columns: columnsOf(metadata, definitions, dataSource),
      isMerged: definitions.some(({ options }) => options.coalesce),
    });
  }
  return tables;
}

function refuseAttached({ name, tablePath }: EntityMetadata, { options }: DataSource): void {
  if (dialectOf(options.type) !== 'sqlite' || !tablePath.includes('.')) return;
  throw new ConfigurationError(
    'DATABASE_NOT_CAPTURED',
    `${name} is in an attached database (${tablePath}), and a trigger of SQLite can write only to its own database file. Use capture: 'orm', or move the table to the main database.`,
    { details: { entity: name, table: tablePath } },
  );
}

/**
 * The columns of an image. Columns that TypeORM does not select by default, such as columns with `select: false`, are not copied to the
 * images table.
 */
function columnsOf(
  metadata: EntityMetadata,
  definitions: readonly EntityDefinition[],
  { driver, options }: DataSource,
): ColumnMetadata[] {
  // On MySQL and MariaDB the trigger stores the text that TypeORM reads. On PostgreSQL the JSON of a row lacks that text.
  const isPostgres = dialectOf(options.type) === 'postgres';
  const isSpatial = (column: ColumnMetadata) => isPostgres && driver.spatialTypes.includes(column.type);
  const hidden = new Set(
    definitions.flatMap((definition) => definition.hiddenColumnsNeeded.map((c) => c.databaseName)),
  );
  for (const definition of definitions) {
    const spatial = definition.columnsNeeded.find(isSpatial);
    if (!spatial) continue;
    throw new ConfigurationError(
      'COLUMN_NOT_CAPTURED',
      `${definition.metadata.name}.${spatial.propertyPath} is a PostGIS column. Triggers cannot capture such a column in the form that TypeORM reads. Leave the property out with \`fields\` or @WebhookHidden(), or use capture: 'orm'.`,
      { details: { entity: definition.metadata.name, field: spatial.propertyPath } },
    );
  }
  const columns = new Map<string, ColumnMetadata>();
  for (const column of metadata.columns) {
    const isWanted = column.isPrimary || column.isSelect || hidden.has(column.databaseName);
    if (isWanted && !column.isVirtualProperty && !isSpatial(column)) columns.set(column.databaseName, column);
  }
  return [...columns.values()];
}
