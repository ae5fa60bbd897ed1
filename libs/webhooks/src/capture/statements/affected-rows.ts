import type { DataSource, EntityMetadata, ObjectLiteral } from 'typeorm';
import type { Json } from '../../json.js';
import type { CapturedWrite } from './captured-write.js';
import type { BuilderResult } from '../typeorm/sending-through.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { CaptureError } from '../../entities/errors.js';
import { idOfImage, keyValue } from '../images/image-select.js';
import { isOneOf } from '../images/links.js';
import { rowKey } from '../images/row-reader.js';
import type { Before, RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { WriteBuilder } from '../typeorm/write-builder.js';
import type { ReadRow } from '../images/written-table.js';
import { dataSourceOf, escapeParameters } from '../../typeorm-compat.js';

/** Rows whose images are in memory at once. A statement that touches more of them is captured batch by batch. */
export const ROWS_PER_BATCH = 1_000;

type Send = (text: string, parameters: unknown[]) => Promise<BuilderResult>;

/** What an update, soft delete or restore does to the rows that it finds. */
export function updateAffected(write: CapturedWrite, send: Send): Send {
  const { queryType } = write.builder.expressionMap;
  const action = queryType === 'soft-delete' ? 'deleted' : queryType === 'restore' ? 'restored' : 'updated';
  return affecting(write, send, action, false);
}

export function deleteAffected(write: CapturedWrite, send: Send): Send {
  return affecting(write, send, 'deleted', true);
}

function affecting(write: CapturedWrite, send: Send, action: EntityAction, isDelete: boolean): Send {
  // Composed when the hooks before the statement have run: they may change what it sets.
  write.builder.getQueryAndParameters = () => ['', []];
  const compose = () => {
    delete (write.builder as Partial<typeof write.builder>).getQueryAndParameters;
    return write.builder.getQueryAndParameters();
  };
  return async () => {
    if (write.dialect === 'postgres' && write.table.isWhole) {
      const result = await inOneStatement(write, send, action, isDelete, compose);
      if (result) return result;
    }
    // Before anything is written: a caller who swallows the error must not be able to commit what nobody is told of.
    if (!isDelete) refuseUnknownKeys(write);
    const rows = await readAffected(write, { isDelete, limit: ROWS_PER_BATCH + 1 });
    if (rows.length > ROWS_PER_BATCH && !hasOwnLimit(write))
      return batchByBatch(write, send, action, isDelete, compose);

    const keys = rows.map(({ key }) => key);
    restrictTo(write, ` WHERE ${keyCondition(write, keys)}`);
    const found = await write.table.complete(write.runner, readRowsOf(rows));
    const [text, parameters] = compose();
    const result = await send(text, parameters);
    if (keys.length && result.affected === 0) await refuseLostKeys(write, keys.length);
    if (isDelete)
      await write.record(found.map(({ definition, image }) => write.change(action, definition, null, image)));
    else await write.record(await changesOf(write, action, found.map(noteOf)));
    return result;
  };
}

/**
 * Nothing was written. Either no key found its row again (a time with more digits than a Date has), or no value changed, on a MySQL
 * whose client counts changed rows instead of found ones (`-FOUND_ROWS`).
 *
 * @throws CaptureError `ROWS_MISSED`
 */
async function refuseLostKeys(write: CapturedWrite, expected: number): Promise<void> {
  const found = write.dialect === 'mysql' ? await readAffected(write, { isDelete: false, limit: expected }) : [];
  if (found.length < expected) throw rowsMissed(write.table.metadata.name, expected, found.length);
}

/** `clear()`: every row of the table, which nobody else writes meanwhile. */
export async function emptyTable(write: CapturedWrite, truncate: () => Promise<unknown>): Promise<unknown> {
  if (write.dialect === 'postgres') {
    await write.runner.query(`LOCK TABLE ${write.table.name} IN ACCESS EXCLUSIVE MODE`);
  }
  await recordDeleted(write);
  return truncate();
}

/**
 * PostgreSQL chooses and locks the rows, writes them and returns both images in one statement. The rows are chosen once: criteria
 * with RANDOM() and concurrent writers make no difference between what is written and what is told.
 *
 * @returns `null` when there are more rows than a batch: then nothing was written
 */
async function inOneStatement(
  write: CapturedWrite,
  send: Send,
  action: EntityAction,
  isDelete: boolean,
  compose: () => [string, unknown[]],
): Promise<BuilderResult | null> {
  const { builder, table, runner } = write;
  const name = `${table.name}.`;
  const keys = keyNames(write);
  const where = conditionOf(write);
  const cte = builder.replacePropertyNamesForTheWholeQuery(builder.createCteExpression());
  const asked = builder.createReturningExpression(isDelete ? 'delete' : 'update');
  const chosen = [
    ...keys.map((key, n) => `${name}${key} AS "wh_k${n}"`),
    ...(isDelete ? [] : [table.list('wh_o', name)]),
  ].join(', ');
  const old = `"wh_old" AS (SELECT ${chosen} FROM ${table.name}${where} LIMIT ${ROWS_PER_BATCH + 1} FOR ${isDelete ? '' : 'NO KEY '}UPDATE)`;
  const same = keys.map((key, n) => `${name}${key} = "wh_old"."wh_k${n}"`).join(' AND ');
  const images = isDelete
    ? table.list('wh_o', name)
    : `${table.list('wh_n', name)}, ${table.names('wh_o', '"wh_old".')}`;
  const head = isDelete ? 'createDeleteExpression' : 'createUpdateExpression';
  const original = builder[head] as () => string;
  builder.createCteExpression = () => '';
  builder[head] = () => `${cte ? `${cte.trimEnd()}, ` : 'WITH '}${old} ${original.call(builder)}`;
  restrictTo(
    write,
    ` ${isDelete ? 'USING' : 'FROM'} "wh_old" WHERE ${same} AND (SELECT count(*) FROM "wh_old") <= ${ROWS_PER_BATCH}`,
  );
  builder.createReturningExpression = () => (asked ? `${asked}, ${images}` : images);
  const [text, parameters] = compose();
  const result = await send(text, parameters);
  const { records } = result;
  if (!records.length && (await isManyRows(write, cte, where))) {
    for (const method of [...COMPOSED, head, 'createCteExpression', 'createReturningExpression'] as const) {
      if (Object.hasOwn(builder, method)) delete (builder as Partial<typeof builder>)[method];
    }
    return null;
  }
  const changes = records.flatMap((row): RowChange[] => {
    const before = table.read(runner, row, 'wh_o');
    if (!before) return [];
    const { definition, image } = before;
    if (isDelete) return [write.change(action, definition, null, image)];
    const after = table.read(runner, row, 'wh_n');
    return after
      ? [write.change(action, definition, action === 'updated' ? beforeImageOf(definition, image) : null, after.image)]
      : [];
  });
  await write.record(changes);
  return withoutImages(result, { hasAsked: asked !== '', isInsert: false });
}

/** Nothing was returned: there were no rows, or too many. */
async function isManyRows({ builder, table, runner }: CapturedWrite, cte: string, where: string): Promise<boolean> {
  const text = `${cte}SELECT count(*) AS "n" FROM (SELECT 1 FROM ${table.name}${where} LIMIT ${ROWS_PER_BATCH + 1}) "t"`;
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  const [row] = (await runner.query(sql, parameters)) as { n: unknown }[];
  return Number(row?.n) > ROWS_PER_BATCH;
}

/** What the caller sees of a result: not what capture has asked for. */
export function withoutImages(
  result: BuilderResult,
  { hasAsked, isInsert }: { hasAsked: boolean; isInsert: boolean },
): BuilderResult {
  const records = hasAsked
    ? result.records.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith('wh_'))))
    : [];
  // As the drivers give them.
  return Object.assign(result, { records, raw: isInsert ? records : [records, result.affected] });
}

interface AffectedRow {
  readonly row: ReadRow | null;
  /** Its primary key, as parameters. */
  readonly key: readonly unknown[];
}

/** Reads and locks the rows that a statement will write. */
async function readAffected(
  write: CapturedWrite,
  { isDelete, limit, after }: { isDelete: boolean; limit: number; after?: readonly unknown[] },
): Promise<AffectedRow[]> {
  const { builder, table, runner, dialect } = write;
  const { driver } = dataSourceOf(runner);
  const keys = keyNames(write);
  let where = conditionOf(write);
  let end = '';
  if (hasOwnLimit(write) || after === undefined) {
    const order = builder.createOrderByExpression?.() ?? '';
    end = builder.replacePropertyNamesForTheWholeQuery(order);
    end += hasOwnLimit(write) ? (builder.createLimitExpression?.() ?? '') : '';
  }
  if (!hasOwnLimit(write)) {
    if (after !== undefined) {
      if (after.length) {
        const beyond = `(${keys.join(', ')}) > (${after.map((value) => builder.createParameter(value)).join(', ')})`;
        where = where ? ` WHERE (${where.slice(' WHERE '.length)}) AND ${beyond}` : ` WHERE ${beyond}`;
      }
      end = ` ORDER BY ${keys.join(', ')}`;
    }
    end += ` LIMIT ${limit}`;
  }
  const lock = { sqlite: '', mysql: ' FOR UPDATE', postgres: ` FOR ${isDelete ? '' : 'NO KEY '}UPDATE` }[dialect];
  const cte = builder.replacePropertyNamesForTheWholeQuery(builder.createCteExpression());
  const list = [...keys.map((key, n) => `${key} AS ${driver.escape(`wh_k${n}`)}`), table.list('wh_o', '')].join(', ');
  const text = `${cte}SELECT ${list} FROM ${table.name}${where}${end}${lock}`;
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  const rows = (await runner.query(sql, parameters)) as Record<string, unknown>[];
  return rows.map((row) => {
    const read = table.read(runner, row, 'wh_o');
    return {
      row: read,
      key: table.metadata.primaryColumns.map((column, n) => {
        if (!read) return row[`wh_k${n}`];
        const value = keyValue(column, read.image.entity, read.image.exact);
        return driver.preparePersistentValue(value, column.referencedColumn ?? column) as unknown;
      }),
    };
  });
}

function readRowsOf(rows: readonly AffectedRow[]): ReadRow[] {
  return rows.flatMap(({ row }) => row ?? []);
}

/** The builder's own condition; a soft delete adds to it that the row is not deleted yet. */
function conditionOf({ builder, runner, table }: CapturedWrite): string {
  const { queryType, wheres } = builder.expressionMap;
  const isSoft = table.metadata.deleteDateColumn !== undefined && ['soft-delete', 'restore'].includes(queryType);
  if (isSoft) {
    wheres.push({ type: 'and', condition: changesDeletion(dataSourceOf(runner), table.metadata, queryType) });
  }
  const where = builder.replacePropertyNamesForTheWholeQuery(builder.createWhereExpression());
  // TypeORM adds it, too; 0.3 does not, and writes the rows that are read here.
  if (isSoft) wheres.pop();
  return where;
}

/** Adds to a soft delete or a restore the condition that TypeORM 1.x adds. */
export function onlyOnce(builder: WriteBuilder, metadata: EntityMetadata): void {
  const { queryType, wheres } = builder.expressionMap;
  wheres.push({ type: 'and', condition: changesDeletion(dataSourceOf(builder), metadata, queryType) });
}

/** That a soft delete meets a row which is not deleted yet, or a restore one which is. */
function changesDeletion({ driver }: DataSource, { deleteDateColumn }: EntityMetadata, queryType: string): string {
  return `${driver.escape(deleteDateColumn?.databaseName ?? '')} IS ${queryType === 'restore' ? 'NOT NULL' : 'NULL'}`;
}

const COMPOSED = ['createWhereExpression', 'createOrderByExpression', 'createLimitExpression'] as const;

function restrictTo({ builder }: CapturedWrite, where: string): void {
  builder.createWhereExpression = () => where;
  // The rows are chosen.
  if (builder.createOrderByExpression) builder.createOrderByExpression = () => '';
  if (builder.createLimitExpression) builder.createLimitExpression = () => '';
}

function hasOwnLimit({ builder }: CapturedWrite): boolean {
  return Boolean(builder.expressionMap.limit);
}

function keyNames({ table, runner }: CapturedWrite): string[] {
  return table.metadata.primaryColumns.map(({ databaseName }) => dataSourceOf(runner).driver.escape(databaseName));
}

function keyCondition(write: CapturedWrite, keys: readonly (readonly unknown[])[]): string {
  const { builder, runner } = write;
  const tuples = keys.map((key) => key.map((value) => builder.createParameter(value)).join(', '));
  return isOneOf(keyNames(write), tuples, dataSourceOf(runner));
}

/**
 * Rows by their keys, locked, as they are before something else than their own statement changes what is told of them.
 *
 * @param keys as parameters, in the order of the primary columns; no more than a statement may have
 */
export async function noteRows(write: CapturedWrite, keys: readonly (readonly unknown[])[]): Promise<NotedRow[]> {
  restrictTo(write, ` WHERE ${keyCondition(write, keys)}`);
  const rows = await readAffected(write, { isDelete: false, limit: keys.length, after: [] });
  return (await write.table.complete(write.runner, readRowsOf(rows))).map(noteOf);
}

/** What is kept of a row until its statement has run. */
export interface NotedRow {
  readonly definition: EntityDefinition;
  readonly id: ObjectLiteral;
  /** As JSON: the old values of the fields, and the owner. */
  readonly before: string;
}

function noteOf({ definition, image }: ReadRow): NotedRow {
  const values = definition.fields.map((field) => definition.valueOf(field, image));
  return { definition, id: idOfImage(definition, image), before: JSON.stringify([values, definition.ownerOf(image)]) };
}

export function beforeImageOf(definition: EntityDefinition, image: RowImage): Before {
  const values = new Map<string, Json>();
  for (const field of definition.fields) values.set(field.path, definition.valueOf(field, image));
  return { values, touched: touchedOf(definition), owner: definition.ownerOf(image) };
}

function beforeOfNote({ definition, before }: NotedRow): Before {
  const [values, owner] = JSON.parse(before) as [Json[], Before['owner']];
  return {
    values: new Map(definition.fields.map((field, n) => [field.path, values[n] ?? null])),
    touched: touchedOf(definition),
    owner,
  };
}

const touched = new WeakMap<EntityDefinition, ReadonlySet<string>>();

/** Both images are exact: what differs was changed, by the statement or by what the database makes of it. */
function touchedOf(definition: EntityDefinition): ReadonlySet<string> {
  let paths = touched.get(definition);
  if (!paths) {
    paths = new Set(definition.fields.filter(({ automatic }) => !automatic).map(({ path }) => path));
    touched.set(definition, paths);
  }
  return paths;
}

/** The changes of rows that were written, with their images read again. */
export async function changesOf(
  write: CapturedWrite,
  action: EntityAction,
  rows: readonly NotedRow[],
): Promise<RowChange[]> {
  const changes: RowChange[] = [];
  for (const definition of write.table.definitions) {
    const own = rows.filter((row) => row.definition === definition);
    if (!own.length) continue;
    const ids = own.map(({ id }) => idAfter(write, definition, id));
    const images = await write.table.imagesNow(write.runner, definition, ids);
    own.forEach((row, n) => {
      const image = images.get(rowKey(definition, ids[n] as ObjectLiteral));
      if (image) changes.push(write.change(action, definition, action === 'updated' ? beforeOfNote(row) : null, image));
    });
  }
  return changes;
}

/** @throws CaptureError `KEY_UNKNOWN` for an update that sets a key by an expression: the database alone knows what it becomes */
function refuseUnknownKeys({ builder, table }: CapturedWrite): void {
  const { queryType, valuesSet } = builder.expressionMap;
  if (queryType !== 'update' || !valuesSet) return;
  const column = table.metadata.primaryColumns.find((one) => typeof one.getEntityValue(valuesSet) === 'function');
  if (!column) return;
  throw new CaptureError(
    'KEY_UNKNOWN',
    `An update of ${table.metadata.name} sets its primary key ${column.propertyPath} by an expression, so that its rows could not be found again; nothing was written. Set a value instead.`,
    { details: { entity: table.metadata.name, column: column.propertyPath } },
  );
}

/** Where a row is after an update that may set its key. */
function idAfter({ builder, table }: CapturedWrite, definition: EntityDefinition, id: ObjectLiteral): ObjectLiteral {
  const { queryType, valuesSet } = builder.expressionMap;
  if (queryType !== 'update' || !valuesSet) return id;
  let moved = id;
  for (const column of table.metadata.primaryColumns) {
    const value: unknown = column.getEntityValue(valuesSet);
    if (value === undefined || !column.isUpdate) continue;
    if (moved === id) moved = definition.metadata.getEntityIdMap(id) ?? { ...id };
    column.setEntityValue(moved, value);
  }
  return moved;
}

/**
 * More rows than a batch. The events of a delete are written before it, and nothing of its rows is kept; of other writes the keys and
 * old values are remembered as text, and images are in memory for one batch at a time. Where the statement fails, or wrote other rows
 * than these, the savepoint takes back what was written, so that a caller who swallows the error commits nothing by halves.
 */
async function batchByBatch(
  write: CapturedWrite,
  send: Send,
  action: EntityAction,
  isDelete: boolean,
  compose: () => [string, unknown[]],
): Promise<BuilderResult> {
  const { runner } = write;
  await runner.query('SAVEPOINT webhooks_batches');
  try {
    const rows: NotedRow[] = [];
    const count = isDelete
      ? await recordDeleted(write)
      : await eachBatch(write, false, (batch) => {
          for (const row of batch) rows.push(noteOf(row));
        });
    const [text, parameters] = compose();
    const result = await send(text, parameters);
    const { affected = count } = result;
    // A server that counts changed rows instead of found ones says less of an update.
    if (isDelete ? affected !== count : affected > count) throw rowsMissed(write.table.metadata.name, count, affected);
    for (let start = 0; start < rows.length; start += ROWS_PER_BATCH) {
      await write.recordBatch(await changesOf(write, action, rows.slice(start, start + ROWS_PER_BATCH)));
    }
    await runner.query('RELEASE SAVEPOINT webhooks_batches');
    return result;
  } catch (error) {
    // After a deadlock or a lost connection there is no savepoint any more, and no transaction.
    await runner.query('ROLLBACK TO SAVEPOINT webhooks_batches').then(write.undone, () => undefined);
    throw error;
  }
}

function recordDeleted(write: CapturedWrite): Promise<number> {
  return eachBatch(write, true, (batch) =>
    write.recordBatch(batch.map(({ definition, image }) => write.change('deleted', definition, null, image))),
  );
}

/** The affected rows in the order of their keys, locked. @returns how many */
async function eachBatch(
  write: CapturedWrite,
  isDelete: boolean,
  take: (batch: readonly ReadRow[]) => Promise<void> | void,
): Promise<number> {
  let count = 0;
  let after: readonly unknown[] = [];
  for (;;) {
    const rows = await readAffected(write, { isDelete, limit: ROWS_PER_BATCH, after });
    count += rows.length;
    await take(await write.table.complete(write.runner, readRowsOf(rows)));
    const last = rows.at(-1);
    if (!last || rows.length < ROWS_PER_BATCH) return count;
    after = last.key;
  }
}

export function rowsMissed(entity: string, expected: number, written: number | undefined): CaptureError {
  return new CaptureError(
    'ROWS_MISSED',
    `A statement on ${entity} wrote ${written} rows where ${expected} had been read and locked: other writers came between, or its criteria give another answer each time (RANDOM()). The write is rolled back, since events would be missing; run it again.`,
    { details: { entity, expected, written: written ?? null } },
  );
}
