import type { DataSource, EntityTarget, ObjectLiteral, QueryRunner } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { exactExpression, isReadInexactly, lastingExpression } from './exact-expression.js';
import { hasOwnColumn, typingColumn, withPart } from '../../entities/foreign-keys.js';
import { ImageSelect, keyOfImage, setForeignKeys } from './image-select.js';
import { readLinks } from './links.js';
import { plainRead, readPlainly } from './plain-read.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** SQLite refuses deep OR chains, which TypeORM makes of keys with several columns: rows are read in chunks. */
const ROWS_PER_SELECT = 500;
/** SQLite takes 32,766 parameters, PostgreSQL twice as many. */
const ROWS_PER_PLAIN_SELECT = 5_000;

/** How rows are locked that are read: `update` and `delete` name the statement that follows. */
export type RowLock = 'none' | 'update' | 'delete';

/** One row, by the text of its primary key. */
export function rowKey({ metadata }: Pick<EntityDefinition, 'metadata'>, id: ObjectLiteral): string {
  return JSON.stringify(metadata.primaryColumns.map((column) => keyText(column.getEntityValue(id), column)));
}

/** The primary key alone: TypeORM merges other values into the identifiers of its subjects. */
export function idOf({ metadata }: EntityDefinition, identifier: ObjectLiteral): ObjectLiteral {
  return metadata.getEntityIdMap(identifier) ?? identifier;
}

/**
 * Reads rows as they are now, in the writer's own transaction: what it has written is locked by it, so no other writer's
 * half of the row can be missed or mixed in.
 *
 * @param lock the writer has not written them yet: they are locked here, by primary key, as the next writer's change could come in
 * between, and InnoDB's REPEATABLE READ would show them as they were when the transaction began
 * @returns images by {@link rowKey}; a row that is gone has none
 */
export async function readRows(
  runner: QueryRunner,
  definition: EntityDefinition,
  ids: readonly ObjectLiteral[],
  lock: RowLock = 'none',
): Promise<Map<string, RowImage>> {
  const images = new Map<string, RowImage>();
  const wanted = [...new Map(ids.map((id) => [rowKey(definition, id), id]))];
  const isPlain = plainRead(definition, dataSourceOf(runner), lastingExpression) !== null;
  const most = isPlain ? ROWS_PER_PLAIN_SELECT : ROWS_PER_SELECT;
  // All writers take the locks of several chunks in the same order; within a chunk the database sorts.
  if (lock !== 'none' && wanted.length > most) wanted.sort(([a], [b]) => (a < b ? -1 : 1));
  for (let start = 0; start < wanted.length; start += most) {
    const chunk = wanted.slice(start, start + most);
    const read = await readChunk(
      runner,
      definition,
      chunk.map(([, id]) => id),
      lock,
    );
    const missing = chunk.filter(([key]) => !read.has(key));
    for (const [key] of chunk) {
      const image = read.get(key);
      if (image) images.set(key, image);
      read.delete(key);
    }
    // The database wrote a key otherwise than the writer did (a padded `char`, another case): asked for alone, it is found.
    if (!read.size) continue;
    for (const [key, id] of missing) {
      const [alone] = (await readChunk(runner, definition, [id], lock)).values();
      if (alone) images.set(key, alone);
    }
  }
  return images;
}

/** A definition belongs to one data source. */
const selects = new WeakMap<EntityDefinition, ImageSelect>();

/** What to select for the images of an entity in a statement of our own. */
export function imageSelectOf(definition: EntityDefinition, dataSource: DataSource): ImageSelect {
  let select = selects.get(definition);
  if (!select) selects.set(definition, (select = ImageSelect.of(definition, dataSource, lastingExpression)));
  return select;
}

/** Whether what TypeORM loads of an entity differs from the row in a value that goes out. */
export function isLoadedInexactly(definition: EntityDefinition, dataSource: DataSource): boolean {
  const isInexact = (column: ColumnMetadata) => isReadInexactly(column, dataSource);
  return (
    definition.columnsNeeded.some(isInexact) ||
    definition.relationsNeeded.some((relation) =>
      relation.joinColumns.some((join) => isInexact(join.referencedColumn ?? join)),
    )
  );
}

/** Whether an entity that TypeORM loaded lacks a foreign key: it loads those that the writer's entity has, and never lazy ones. */
export function lacksForeignKeys(relations: EntityDefinition['relationsNeeded'], loaded: ObjectLiteral): boolean {
  return relations.some((relation) => relation.getEntityValue(loaded) === undefined);
}

/** How a query builder names a part of the primary key, which may be a foreign key without a property of its own. */
function pathOfKey({ isVirtual, relationMetadata, propertyPath }: ColumnMetadata): string {
  return isVirtual && relationMetadata ? relationMetadata.propertyPath : propertyPath;
}

async function readChunk(
  runner: QueryRunner,
  definition: EntityDefinition,
  ids: readonly ObjectLiteral[],
  rowLock: RowLock,
): Promise<Map<string, RowImage>> {
  const { metadata } = definition;
  const dataSource = dataSourceOf(runner.manager);
  const dialect = dialectOf(dataSource.options.type);
  // SQLite has one writer at a time, and no words for it.
  const isLocking = rowLock !== 'none' && dialect !== 'sqlite';
  // There FOR UPDATE makes writers wait that only refer to the row.
  const isWeak = dialect === 'postgres' && rowLock === 'update';
  const plain = plainRead(definition, dataSource, lastingExpression);
  if (plain) {
    const lock = isLocking ? `${plain.order} FOR ${isWeak ? 'NO KEY ' : ''}UPDATE` : '';
    const read = await readPlainly(plain, runner, { ids, lock });
    return new Map(read.map((image) => [image.key, image]));
  }
  const builder = runner.manager
    .createQueryBuilder(metadata.target as EntityTarget<ObjectLiteral>, 'e')
    .withDeleted()
    .callListeners(false)
    .whereInIds([...ids]);
  if (isLocking) {
    builder.setLock(isWeak ? 'for_no_key_update' : 'pessimistic_write');
    for (const path of new Set(metadata.primaryColumns.map(pathOfKey))) builder.addOrderBy(`e.${path}`);
  }
  for (const column of definition.hiddenColumnsNeeded) builder.addSelect(`e.${column.propertyPath}`);

  const exact: { path: string; part: ColumnMetadata | null; column: ColumnMetadata; alias: string }[] = [];
  const select = (path: string, part: ColumnMetadata | null, column: ColumnMetadata, value: string) => {
    const alias = `wh_exact_${exact.length}`;
    exact.push({ path, part, column, alias });
    builder.addSelect(exactExpression(column, value, dataSource) ?? `(${value})`, alias);
  };
  // Hydration leaves a foreign key out unless the relation is joined.
  for (const { joinColumns, propertyPath } of metadata.relations.filter(hasOwnColumn)) {
    for (const join of joinColumns) {
      const name = `${dataSource.driver.escape('e')}.${dataSource.driver.escape(join.databaseName)}`;
      select(propertyPath, joinColumns.length > 1 ? join : null, typingColumn(join), name);
    }
  }
  for (const column of definition.columnsNeeded) {
    const { propertyPath } = column;
    if (exactExpression(column, '', dataSource)) select(propertyPath, null, column, `e.${propertyPath}`);
  }

  const { entities, raw } = await builder.getRawAndEntities<Record<string, unknown>>();
  const { driver } = dataSource;
  const images = new Map<string, RowImage & { readonly exact: Map<string, unknown> }>();
  entities.forEach((entity, index) => {
    const values = new Map<string, unknown>();
    for (const { path, part, column, alias } of exact) {
      // As hydration would have done: a transformer's value is the application's.
      const value: unknown = driver.prepareHydratedValue(raw[index]?.[alias] ?? null, column) ?? null;
      if (part === null) values.set(path, value);
      else values.set(path, withPart(values.get(path), part, value));
    }
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
