import type { ObjectLiteral } from 'typeorm';
import { ROWS_PER_BATCH } from './read-affected.js';
import { withoutImages } from './affected-rows.js';
import type { CapturedWrite } from './captured-write.js';
import type { BuilderResult } from '../typeorm/sending-through.js';
import { createNotes } from './noted-rows.js';
import { isUpsert, lastOfEach, mayChangeKey, recordInserted, type InsertedRow } from './record-inserted.js';
import type { RowNotes } from './row-notes.js';
import { insertUnreturned } from './unreturned-rows.js';
import type { ReadRow } from '../images/written-table.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Send = (text: string, parameters: unknown[]) => Promise<BuilderResult>;
type Row = Record<string, unknown>;

/**
 * Captures an insert, with or without ON CONFLICT or ON DUPLICATE KEY. The rows come from `RETURNING` if the driver supports `RETURNING`.
 */
export async function insertRows(write: CapturedWrite, send: Send): Promise<Send> {
  const { insertFromSelect } = write.builder.expressionMap;
  if (!returns(write)) return insertFromSelect ? uncaptured(write, send) : insertUnreturned(write, send);
  if (isUpsert(write)) return insertReturned(write, send, await createNotes(write));
  return insertFromSelect ? insertSelected(write, send) : insertReturned(write, send, null);
}

/**
 * Whether the statement can return its rows. SQLite supports RETURNING, although TypeORM's driver does not use it. On MariaDB an added
 * RETURNING would change the result that the caller gets. So on MariaDB RETURNING is used only if the statement already has one.
 */
function returns({ dialect, builder }: CapturedWrite): boolean {
  if (dialect !== 'mysql') return true;
  return dataSourceOf(builder).driver.isReturningSqlSupported('insert') && hasReturning(builder);
}

/** Whether the statement ends with a RETURNING that TypeORM or the caller added. Must be called when the statement is already composed. */
function hasReturning(builder: CapturedWrite['builder']): boolean {
  const { updateEntity, returning, mainAlias } = builder.expressionMap as typeof builder.expressionMap & {
    updateEntity: boolean;
    returning: string | readonly string[] | undefined;
  };
  return (
    (returning?.length ?? 0) > 0 ||
    (updateEntity && (mainAlias?.metadata.getInsertionReturningColumns().length ?? 0) > 0)
  );
}

function insertReturned(write: CapturedWrite, send: Send, notes: RowNotes | null): Send {
  return async (text, parameters) => {
    await notes?.begin();
    try {
      const result = await sendReturning(write, send, [text, parameters], notes);
      const { records } = result;
      const old = (await notes?.read(records)) ?? [];
      await recordInserted(write, lastOfEach(insertedRows(write, records, old)));
      return await withoutReturned(write, result);
    } finally {
      notes?.end();
    }
  };
}

function sendReturning(
  write: CapturedWrite,
  send: Send,
  [text, parameters]: [string, unknown[]],
  notes: RowNotes | null,
): Promise<BuilderResult> {
  const { dialect, table } = write;
  const [statement, values] = notes?.notingStatement(text, parameters) ?? [text, parameters];
  const list = [table.list('wh_n', ''), ...(notes ? [notes.returned.list] : [])];
  if (dialect === 'sqlite' && !table.metadata.withoutRowid) list.push('rowid AS "wh_rowid"');
  const join = hasOwnReturning(write) ? ', ' : ' RETURNING ';
  return send(`${statement}${join}${list.join(', ')}`, [...values, ...(notes?.returned.parameters ?? [])]);
}

/** Whether the statement already has a RETURNING. TypeORM never adds a RETURNING on SQLite. */
function hasOwnReturning({ dialect, builder }: CapturedWrite): boolean {
  return dialect !== 'sqlite' && hasReturning(builder);
}

/** Removes the columns that capture added from a result. */
async function withoutReturned(write: CapturedWrite, result: BuilderResult): Promise<BuilderResult> {
  const { records } = result;
  if (write.dialect !== 'sqlite') return withoutImages(result, { hasAsked: hasOwnReturning(write), isInsert: true });
  // For a statement without RETURNING, better-sqlite3 gives the rowid of the last inserted row. better-sqlite3 never gives the rowid of an
  // updated row.
  const inserted = records.filter(({ wh_met: met }) => met === undefined || met === null);
  const raw = inserted.at(-1)?.['wh_rowid'] ?? (await lastRowId(write));
  return Object.assign(result, { affected: records.length, raw, records: [] });
}

async function lastRowId({ runner }: CapturedWrite): Promise<unknown> {
  const [row] = (await runner.query('SELECT last_insert_rowid() AS id')) as { id: unknown }[];
  return row?.id;
}

/** @param old the before images, in the order of the records */
function insertedRows(write: CapturedWrite, records: readonly Row[], old: readonly (ReadRow | null)[]): InsertedRow[] {
  const isMoved = mayChangeKey(write);
  return records.flatMap((record, n): InsertedRow[] => {
    const now = write.table.read(write.runner, record, 'wh_n');
    if (!now) return [];
    const before = old[n] ?? null;
    // The key differs from the key of the noted row: a trigger of the application has prevented that update. So the returned row is a new
    // row.
    const isOfAnother = before !== null && !isMoved && before.image.key !== now.image.key;
    return [{ now, old: isOfAnother ? null : before }];
  });
}

/**
 * Captures an INSERT … SELECT. The statement returns keys, and the images are read batch by batch, because the SELECT may return any number
 * of rows.
 */
function insertSelected(write: CapturedWrite, send: Send): Send {
  const { table, runner, builder } = write;
  const { driver } = dataSourceOf(runner);
  const inserted = builder.expressionMap.mainAlias?.metadata;
  const plan = table.plans.find(({ definition }) => definition.metadata === inserted);
  if (!plan) return send;
  return async (text, parameters) => {
    const keys = table.metadata.primaryColumns.map(
      ({ databaseName }, n) => `${driver.escape(databaseName)} AS ${driver.escape(`wh_k${n}`)}`,
    );
    const result = await send(`${text}${hasOwnReturning(write) ? ', ' : ' RETURNING '}${keys.join(', ')}`, parameters);
    const { records } = result;
    for (let start = 0; start < records.length; start += ROWS_PER_BATCH) {
      const ids = records.slice(start, start + ROWS_PER_BATCH).map((record) => idOfRecord(write, record));
      const images = await table.imagesNow(runner, plan, ids);
      await write.recordBatch([...images.values()].map((image) => write.change('created', plan, null, image)));
    }
    return withoutReturned(write, result);
  };
}

function idOfRecord({ table, runner }: CapturedWrite, record: Row): ObjectLiteral {
  const { driver } = dataSourceOf(runner);
  const id: ObjectLiteral = {};
  table.metadata.primaryColumns.forEach((column, n) => {
    const typed = column.referencedColumn ?? column;
    const value: unknown = driver.prepareHydratedValue(record[`wh_k${n}`], typed);
    column.setEntityValue(id, column.isVirtual ? typed.createValueMap(value) : value);
  });
  return id;
}

function uncaptured(write: CapturedWrite, send: Send): Send {
  return async (text, parameters) => {
    write.warn(
      'INSERT_SELECT_NOT_CAPTURED',
      `An INSERT … SELECT into ${write.table.metadata.name} makes no events, because the driver of this database does not return inserted rows. To get events, read the rows and write them with insert() or upsert().`,
    );
    const result = await send(text, parameters);
    await write.record([]);
    return result;
  };
}
