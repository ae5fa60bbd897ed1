import type { BuilderResult } from '../typeorm/sending-through.js';
import type { CapturedWrite } from './captured-write.js';
import { CaptureError } from '../../entities/errors.js';
import { hideColons, showColons } from './hidden-colons.js';
import { beforeImageOf, type RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import { dataSourceOf, escapeParameters } from '../../typeorm-compat.js';
import {
  COMPOSED,
  conditionOf,
  eachBatch,
  hasOwnLimit,
  keyCondition,
  keyNames,
  readAffected,
  readRowsOf,
  restrictTo,
  ROWS_PER_BATCH,
} from './read-affected.js';
import { changesOf, noteOf, type NotedRow } from './rows-before.js';

type Send = (text: string, parameters: unknown[]) => Promise<BuilderResult>;

/** Captures the rows that an update, soft delete or restore writes. */
export function updateAffected(write: CapturedWrite, send: Send): Send {
  const { queryType } = write.builder.expressionMap;
  const action = queryType === 'soft-delete' ? 'deleted' : queryType === 'restore' ? 'restored' : 'updated';
  return affecting(write, send, action, false);
}

/** Captures the rows that a delete removes. */
export function deleteAffected(write: CapturedWrite, send: Send): Send {
  return affecting(write, send, 'deleted', true);
}

function affecting(write: CapturedWrite, send: Send, action: EntityAction, isDelete: boolean): Send {
  // The statement is composed later: hooks before the statement may change the values that the statement sets.
  write.builder.getQueryAndParameters = () => ['', []];
  const compose = (): [string, unknown[]] => {
    delete (write.builder as Partial<typeof write.builder>).getQueryAndParameters;
    const [text, parameters] = write.builder.getQueryAndParameters();
    return [showColons(text), parameters];
  };
  return async () => {
    if (write.dialect === 'postgres' && write.table.isWhole) {
      const result = await inOneStatement(write, send, action, isDelete, compose);
      if (result) return result;
    }
    // Refuse the update before the database is changed. Otherwise a caller who swallows the error could commit a change without its event.
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
    if (isDelete) await write.record(found.map(({ plan, image }) => write.change(action, plan, null, image)));
    else await write.record(await changesOf(write, action, found.map(noteOf)));
    return result;
  };
}

/**
 * Called when a statement reports no affected row. There are two possible causes. First, no key matched its row, because the key is a time
 * with more digits than a Date has. Second, no value changed, and the MySQL client counts changed rows instead of found rows
 * (`-FOUND_ROWS`). The second cause is not an error.
 *
 * @throws CaptureError `ROWS_MISSED`
 */
async function refuseLostKeys(write: CapturedWrite, expected: number): Promise<void> {
  const found = write.dialect === 'mysql' ? await readAffected(write, { isDelete: false, limit: expected }) : [];
  if (found.length < expected) throw rowsMissed(write.table.metadata.name, expected, found.length);
}

/**
 * Captures `clear()` as deletes of all rows. On PostgreSQL the table is locked, so that no other writer adds a row in the meantime. The
 * events are written before the statement. If the statement fails, the savepoint takes them back, even if the caller swallows the error.
 */
export async function emptyTable(write: CapturedWrite, truncate: () => Promise<unknown>): Promise<unknown> {
  if (write.dialect === 'postgres') {
    await write.runner.query(`LOCK TABLE ${write.table.name} IN ACCESS EXCLUSIVE MODE`);
  }
  return inSavepoint(write, async () => {
    await recordDeleted(write);
    return truncate();
  });
}

/**
 * On PostgreSQL one statement selects and locks the rows, writes them and returns both images. The rows are selected only once. So the
 * captured rows are always the written rows, even with RANDOM() in the criteria and with concurrent writers.
 *
 * @returns `null` if there are more rows than one batch. In this case nothing was written
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
    ...(isDelete ? [] : [hideColons(table.list('wh_o', name))]),
  ].join(', ');
  const old = `"wh_old" AS (SELECT ${chosen} FROM ${table.name}${where} LIMIT ${ROWS_PER_BATCH + 1} FOR ${isDelete ? '' : 'NO KEY '}UPDATE)`;
  const same = keys.map((key, n) => `${name}${key} = "wh_old"."wh_k${n}"`).join(' AND ');
  const images = hideColons(
    isDelete ? table.list('wh_o', name) : `${table.list('wh_n', name)}, ${table.names('wh_o', '"wh_old".')}`,
  );
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
    const before = table.read(runner, row, 'wh_o', table.kindIn(row, 'wh_n'));
    if (!before) return [];
    const { plan, image } = before;
    if (isDelete) return [write.change(action, plan, null, image)];
    const after = table.read(runner, row, 'wh_n');
    return after
      ? [write.change(action, plan, action === 'updated' ? beforeImageOf(plan, image) : null, after.image)]
      : [];
  });
  await write.record(changes);
  return withoutImages(result, { hasAsked: asked !== '', isInsert: false });
}

/** Whether a statement that returned nothing matches more rows than one batch. Otherwise the statement matches no row. */
async function isManyRows({ builder, table, runner }: CapturedWrite, cte: string, where: string): Promise<boolean> {
  const text = `${cte}SELECT count(*) AS "n" FROM (SELECT 1 FROM ${table.name}${where} LIMIT ${ROWS_PER_BATCH + 1}) "t"`;
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  const [row] = (await runner.query(sql, parameters)) as { n: unknown }[];
  return Number(row?.n) > ROWS_PER_BATCH;
}

/** Removes the columns that capture has added to a result. The caller then sees only the columns that the caller has requested. */
export function withoutImages(
  result: BuilderResult,
  { hasAsked, isInsert }: { hasAsked: boolean; isInsert: boolean },
): BuilderResult {
  const records = hasAsked
    ? result.records.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith('wh_'))))
    : [];
  // The drivers define the shape of `raw`.
  return Object.assign(result, { records, raw: isInsert ? records : [records, result.affected] });
}

/** @throws CaptureError `KEY_UNKNOWN` if an update sets a key by an expression, because only the database knows the new key */
function refuseUnknownKeys({ builder, table }: CapturedWrite): void {
  const { queryType, valuesSet } = builder.expressionMap;
  if (queryType !== 'update' || !valuesSet) return;
  const column = table.metadata.primaryColumns.find((one) => typeof one.getEntityValue(valuesSet) === 'function');
  if (!column) return;
  throw new CaptureError(
    'KEY_UNKNOWN',
    `An update of ${table.metadata.name} sets the primary key ${column.propertyPath} by an expression, so its rows could not be found afterwards. Nothing was written. Set the key to a value.`,
    { details: { entity: table.metadata.name, column: column.propertyPath } },
  );
}

/**
 * Captures a statement that writes more rows than one batch. The events of a delete are written before the statement, so no row stays in
 * memory. For other writes, the keys and old values stay in memory as text, and the images of one batch at a time. The savepoint is rolled
 * back if the statement fails, or if the statement writes other rows than the rows that were read. So a caller who swallows the error
 * cannot commit half of the write.
 */
async function batchByBatch(
  write: CapturedWrite,
  send: Send,
  action: EntityAction,
  isDelete: boolean,
  compose: () => [string, unknown[]],
): Promise<BuilderResult> {
  return inSavepoint(write, async () => {
    const rows: NotedRow[] = [];
    const count = isDelete
      ? await recordDeleted(write)
      : await eachBatch(write, false, (batch) => {
          for (const row of batch) rows.push(noteOf(row));
        });
    const [text, parameters] = compose();
    const result = await send(text, parameters);
    const { affected = count } = result;
    // If the client counts changed rows instead of found rows, an update may report fewer rows than were read.
    if (isDelete ? affected !== count : affected > count) throw rowsMissed(write.table.metadata.name, count, affected);
    for (let start = 0; start < rows.length; start += ROWS_PER_BATCH) {
      await write.recordBatch(await changesOf(write, action, rows.slice(start, start + ROWS_PER_BATCH)));
    }
    return result;
  });
}

/** Runs `work` in a savepoint. If `work` throws, neither its writes nor its events remain in the transaction. */
async function inSavepoint<T>({ runner, undone }: CapturedWrite, work: () => Promise<T>): Promise<T> {
  await runner.query('SAVEPOINT webhooks_batches');
  try {
    const result = await work();
    await runner.query('RELEASE SAVEPOINT webhooks_batches');
    return result;
  } catch (error) {
    // After a deadlock or a lost connection, the savepoint and the transaction no longer exist.
    await runner.query('ROLLBACK TO SAVEPOINT webhooks_batches').then(undone, () => undefined);
    throw error;
  }
}

function recordDeleted(write: CapturedWrite): Promise<number> {
  return eachBatch(write, true, (batch) =>
    write.recordBatch(batch.map(({ plan, image }) => write.change('deleted', plan, null, image))),
  );
}

export function rowsMissed(entity: string, expected: number, written: number | undefined): CaptureError {
  return new CaptureError(
    'ROWS_MISSED',
    `A statement on ${entity} wrote ${written} rows, but ${expected} rows were read and locked before it. Either another writer changed rows in between, or the criteria match different rows each time (RANDOM()). Events would be missing, so the write is rolled back. Run the statement again.`,
    { details: { entity, expected, written: written ?? null } },
  );
}
