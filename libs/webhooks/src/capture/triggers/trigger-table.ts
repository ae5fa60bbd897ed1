import type { DataSource, EntityMetadata } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import { dialectOf } from '../../dialect.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { rootOf } from '../../entities/single-table.js';

/** A table whose changes triggers write down. */
export interface TriggerTable {
  /** As TypeORM says it, and as it stands in each image. */
  readonly path: string;
  /** Of the entity, or of the parent of those that share the table. */
  readonly metadata: EntityMetadata;
  /** What is made of its rows: one, or one for each kind of row in a single table. */
  readonly definitions: readonly EntityDefinition[];
  /** Columns that an image has on MySQL, MariaDB and SQLite; on PostgreSQL it has all there are. */
  readonly columns: readonly ColumnMetadata[];
  /** Whether several changes of a row in one transaction may make one event: then each image says which row and transaction. */
  readonly isMerged: boolean;
}

/**
 * The tables that need triggers.
 *
 * @throws ConfigurationError `TABLE_CAPTURED_TWICE`: entities that share a table and are not of one inheritance, or not of one mode;
 * `COLUMN_NOT_CAPTURED`: a column that goes out and that no image can hold; `DATABASE_NOT_CAPTURED`: a table in another file
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
        `${definitions.map((definition) => definition.metadata.name).join(' and ')} stand in one table (${path}), and triggers see the table only: one \`capture\` must hold for all of them, and only the kinds of one inheritance may share it.`,
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
    `${name} is in an attached database (${tablePath}), and a trigger of SQLite can write only to its own file. Use capture: 'orm' for it, or move it to the main database.`,
    { details: { entity: name, table: tablePath } },
  );
}

/** Columns that are never read by the application, such as `select: false` ones, need not lie about in another table. */
function columnsOf(
  metadata: EntityMetadata,
  definitions: readonly EntityDefinition[],
  { driver, options }: DataSource,
): ColumnMetadata[] {
  // MySQL and MariaDB write the text that TypeORM reads; PostGIS has no such text in a row's JSON.
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
      `${definition.metadata.name}.${spatial.propertyPath} is a PostGIS column, which triggers cannot capture in the form that TypeORM reads. Leave it out with \`fields\` or @WebhookHidden(), or use capture: 'orm'.`,
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
