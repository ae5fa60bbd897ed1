import type { DataSource, EntityTarget, ObjectLiteral, QueryRunner, SelectQueryBuilder } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { exactExpression, isReadInexactly } from '../plans/exact-expression.js';
import { hasOwnColumn, typingColumn, withPart } from '../../entities/foreign-keys.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { keyOfImage, setForeignKeys } from '../plans/image-select.js';
import { readLinks } from './links.js';
import type { PlainRead } from '../plans/plain-read.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/**
 * The maximum number of rows for one SELECT of TypeORM. TypeORM turns keys of several columns into a chain of ORs, and SQLite refuses deep
 * chains.
 */
const ROWS_PER_SELECT = 500;
/** The maximum number of rows for one plain SELECT. SQLite takes at most 32,766 parameters, PostgreSQL takes at most 65,535. */
const ROWS_PER_PLAIN_SELECT = 5_000;

/** How a read locks its rows: `update` and `delete` name the statement that follows the read. */
export type RowLock = 'none' | 'update' | 'delete';

/** The text of a primary key, which identifies a row among the rows of its entity. */
export function rowKey({ metadata }: Pick<EntityDefinition, 'metadata'>, id: ObjectLiteral): string {
  return JSON.stringify(metadata.primaryColumns.map((column) => keyText(column.getEntityValue(id), column)));
}

/** The primary key without other values. TypeORM adds other values, such as a version, to the identifiers of its subjects. */
export function idOf({ metadata }: EntityDefinition, identifier: ObjectLiteral): ObjectLiteral {
  return metadata.getEntityIdMap(identifier) ?? identifier;
}

/**
 * Reads the current state of rows in the transaction of the writer. This transaction locks each row that it writes, so no other writer can
 * change these rows in between.
 *
 * @param lock for rows that are not written yet: the read locks these rows in the order of the primary key. Without the lock, another
 * writer could change the rows between the read and the write. Also, REPEATABLE READ of InnoDB would show the rows as they were at the
 * start of the transaction.
 * @returns images by {@link rowKey}. A deleted row has no image
 */
export async function readRows(
  runner: QueryRunner,
  plan: EntityPlan,
  ids: readonly ObjectLiteral[],
  lock: RowLock = 'none',
): Promise<Map<string, RowImage>> {
  const images = new Map<string, RowImage>();
  const wanted = [...new Map(ids.map((id) => [rowKey(plan.definition, id), id]))];
  const most = plan.plainRead ? ROWS_PER_PLAIN_SELECT : ROWS_PER_SELECT;
  // All writers lock their chunks in the same order. This order avoids deadlocks. Within a chunk the database sorts the rows.
  if (lock !== 'none' && wanted.length > most) wanted.sort(([a], [b]) => (a < b ? -1 : 1));
  for (let start = 0; start < wanted.length; start += most) {
    const chunk = wanted.slice(start, start + most);
    const read = await readChunk(
      runner,
      plan,
      chunk.map(([, id]) => id),
      lock,
    );
    const missing = chunk.filter(([key]) => !read.has(key));
    for (const [key] of chunk) {
      const image = read.get(key);
      if (image) images.set(key, image);
      read.delete(key);
    }
    // The database may store a key in another spelling than the key that the writer gave (a padded `char`, another case). To find the row
    // of each such key, read each missing key alone.
    if (!read.size) continue;
    for (const [key, id] of missing) {
      const [alone] = (await readChunk(runner, plan, [id], lock)).values();
      if (alone) images.set(key, alone);
    }
  }
  return images;
}

/** Whether the event contains a column whose loaded value in TypeORM may differ from the stored value (see `exactExpression`). */
export function isLoadedInexactly(definition: EntityDefinition, dataSource: DataSource): boolean {
  const isInexact = (column: ColumnMetadata) => isReadInexactly(column, dataSource);
  return (
    definition.columnsNeeded.some(isInexact) ||
    definition.relationsNeeded.some((relation) =>
      relation.joinColumns.some((join) => isInexact(join.referencedColumn ?? join)),
    )
  );
}

/**
 * Whether a loaded entity lacks a foreign key. Before a write, TypeORM loads only the relations that are set on the entity of the writer.
 * TypeORM never loads lazy relations.
 */
export function lacksForeignKeys(relations: EntityDefinition['relationsNeeded'], loaded: ObjectLiteral): boolean {
  return relations.some((relation) => relation.getEntityValue(loaded) === undefined);
}

/** The path of a primary key column in a query builder. The column may be a foreign key without its own property. */
function pathOfKey({ isVirtual, relationMetadata, propertyPath }: ColumnMetadata): string {
  return isVirtual && relationMetadata ? relationMetadata.propertyPath : propertyPath;
}

async function readPlainly(
  { select }: EntityPlan,
  { text, key, aliases }: PlainRead,
  runner: QueryRunner,
  ids: readonly ObjectLiteral[],
  lock: string,
): Promise<Map<string, RowImage>> {
  const { driver } = dataSourceOf(runner);
  const list = ids.map((_, n) => driver.createParameter(`id${n}`, n)).join(', ');
  const values = ids.map((id): unknown => driver.preparePersistentValue(key.getEntityValue(id), key));
  const rows = (await runner.query(`${text} (${list})${lock}`, values)) as Record<string, unknown>[];
  const images = new Map<string, RowImage>();
  for (const row of rows) {
    const image = select.image(runner, row, aliases);
    images.set(image.key, image);
  }
  return images;
}

async function readChunk(
  runner: QueryRunner,
  plan: EntityPlan,
  ids: readonly ObjectLiteral[],
  rowLock: RowLock,
): Promise<Map<string, RowImage>> {
  const dialect = dialectOf(dataSourceOf(runner.manager).options.type);
  // SQLite has one writer at a time and no syntax for row locks, so the read locks only on other databases.
  const isLocking = rowLock !== 'none' && dialect !== 'sqlite';
  // On PostgreSQL, FOR UPDATE would also block writers that only reference the row by a foreign key.
  const isWeak = dialect === 'postgres' && rowLock === 'update';
  const { plainRead } = plan;
  if (plainRead) {
    const lock = isLocking ? `${plainRead.order} FOR ${isWeak ? 'NO KEY ' : ''}UPDATE` : '';
    return readPlainly(plan, plainRead, runner, ids, lock);
  }
  return readByTypeorm(runner, plan.definition, ids, isLocking ? LOCK_MODES[isWeak ? 'weak' : 'strong'] : null);
}

const LOCK_MODES = { weak: 'for_no_key_update', strong: 'pessimistic_write' } as const;

/** A column whose stored value is selected beside the entity, because TypeORM's hydration changes the value or leaves it out. */
interface ExactColumn {
  readonly path: string;
  /** The column of a foreign key of several columns. */
  readonly part: ColumnMetadata | null;
  readonly column: ColumnMetadata;
  readonly alias: string;
}

async function readByTypeorm(
  runner: QueryRunner,
  definition: EntityDefinition,
  ids: readonly ObjectLiteral[],
  lockMode: (typeof LOCK_MODES)['weak' | 'strong'] | null,
): Promise<Map<string, RowImage>> {
  const { metadata } = definition;
  const builder = runner.manager
    .createQueryBuilder(metadata.target as EntityTarget<ObjectLiteral>, 'e')
    .withDeleted()
    .callListeners(false)
    .whereInIds([...ids]);
  if (lockMode) {
    builder.setLock(lockMode);
    for (const path of new Set(metadata.primaryColumns.map(pathOfKey))) builder.addOrderBy(`e.${path}`);
  }
  for (const column of definition.hiddenColumnsNeeded) builder.addSelect(`e.${column.propertyPath}`);
  const exact = selectExactly(builder, definition);
  const { entities, raw } = await builder.getRawAndEntities<Record<string, unknown>>();
  const images = new Map<string, RowImage & { readonly exact: Map<string, unknown> }>();
  entities.forEach((entity, index) => {
    const values = exactValues(exact, raw[index] ?? {}, dataSourceOf(runner.manager));
    setForeignKeys(definition, entity, values);
    const key = keyOfImage(definition, entity, values);
    images.set(key, { key, entity, exact: values });
  });
  for (const field of definition.linkFields) {
    const links = await readLinks(runner, definition, field, [...images.values()]);
    for (const { key, exact: values } of images.values()) values.set(field.path, links.get(key) ?? []);
  }
  return images;
}

/** Adds the columns to the query that {@link ExactColumn} describes. */
function selectExactly(builder: SelectQueryBuilder<ObjectLiteral>, definition: EntityDefinition): ExactColumn[] {
  const exact: ExactColumn[] = [];
  const dataSource = dataSourceOf(builder);
  const select = (path: string, part: ColumnMetadata | null, column: ColumnMetadata, value: string) => {
    const alias = `wh_exact_${exact.length}`;
    exact.push({ path, part, column, alias });
    builder.addSelect(exactExpression(column, value, dataSource) ?? `(${value})`, alias);
  };
  // TypeORM's hydration leaves out a foreign key if the relation is not joined.
  for (const { joinColumns, propertyPath } of definition.metadata.relations.filter(hasOwnColumn)) {
    for (const join of joinColumns) {
      const name = `${dataSource.driver.escape('e')}.${dataSource.driver.escape(join.databaseName)}`;
      select(propertyPath, joinColumns.length > 1 ? join : null, typingColumn(join), name);
    }
  }
  for (const column of definition.columnsNeeded) {
    const { propertyPath } = column;
    if (exactExpression(column, '', dataSource)) select(propertyPath, null, column, `e.${propertyPath}`);
  }
  return exact;
}

/**
 * The stored values of one row, by property path. They are converted in the same way as by TypeORM's hydration, so that a transformer
 * returns the value of the application.
 */
function exactValues(
  exact: readonly ExactColumn[],
  row: Record<string, unknown>,
  { driver }: DataSource,
): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const { path, part, column, alias } of exact) {
    const value: unknown = driver.prepareHydratedValue(row[alias] ?? null, column) ?? null;
    values.set(path, part === null ? value : withPart(values.get(path), part, value));
  }
  return values;
}
