import type { ObjectLiteral } from 'typeorm';
import { rowsMissed } from './affected-rows.js';
import type { CapturedWrite } from './captured-write.js';
import type { BuilderResult } from '../typeorm/sending-through.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { CaptureError } from '../../entities/errors.js';
import { keyValue } from '../plans/image-select.js';
import { isUpsert, recordInserted, type InsertedRow } from './record-inserted.js';
import { isOneOf } from '../images/links.js';
import { assigningFirst, assigningLast, keyText, mysqlNote, readNotes } from './noted-rows.js';
import { INSERTED, tracedRows, type TracedRow, type UpdatedRow } from './traced-rows.js';
import type { ReadRow } from '../images/written-table.js';
import { dataSourceOf, escapeParameters } from '../../typeorm-compat.js';

type Send = (text: string, parameters: unknown[]) => Promise<BuilderResult>;
type Row = Record<string, unknown>;

/** A row with its primary key as text, compared byte by byte. `now` is `null` for a row of an entity that is not captured. */
interface KeyedRow {
  readonly now: ReadRow | null;
  readonly key: string;
}

/** A row that the statement has written. */
interface WrittenRow extends KeyedRow, TracedRow {}

/**
 * Captures an insert on MySQL, whose driver returns no rows. The written rows are found by their unique values or by their auto-increment
 * numbers. Some of the found rows may be older than the statement. To recognize older rows, an upsert notes the rows that it updates. Also,
 * the keys of existing rows are read before the statement.
 */
export function insertUnreturned(write: CapturedWrite, send: Send): Send {
  const { onUpdate, onIgnore } = write.builder.expressionMap;
  const updates = isUpsert(write);
  const ignores = onIgnore === true || (onUpdate !== undefined && !updates);
  return async (text, parameters) => {
    const known = conflictConditions(write, updates || ignores);
    const { existing, outdated } = updates || ignores ? await keysBefore(write, known) : NO_KEYS;
    const result = await send(updates ? notingStatement(write, text) : text, parameters);
    const updated = updates ? await readUpdatedRows(write) : [];
    const expected = ignores && !updates ? (result.affected ?? 0) : valueSetsOf(write).length - updated.length;
    // Nothing was written, because the rows exist already.
    if (expected === 0 && !updated.length) return result;
    const numbered = expected > 0 ? await numbersCondition(write, result, updates || ignores) : [];
    const conditions = [...known, ...numbered, ...updatedConditions(write, updated)];
    const rows = await readWhere(write, conditions);
    const found = rows.some(({ key }) => outdated.has(key)) ? await currentRows(write, known, rows, outdated) : rows;
    const written = writtenRows(found, existing, ignores ? appliedUpdates(found, updated) : updated);
    await recordInserted(write, newAndUpdated(write, written, expected));
    return result;
  };
}

/** Extends an upsert so that it notes the updated rows, and their keys after the update, in variables of the connection. */
function notingStatement(write: CapturedWrite, text: string): string {
  const note = mysqlNote(write, ["'wh_key'", keyText(write)]);
  const comma = "IF(@webhooks_met = '', '', ',')";
  const first = assigningFirst(write, text, `@webhooks_met := CONCAT(@webhooks_met, ${comma}, ${note})`);
  return assigningLast(write, first, `@webhooks_keys := CONCAT(@webhooks_keys, ',', ${keyText(write)})`);
}

/** Keys of rows that match the conditions before the statement. */
interface KeysBefore {
  /** The rows that exist. They are locked. */
  readonly existing: ReadonlySet<string>;
  /**
   * Rows that only the snapshot of the transaction still contains: another writer has changed or deleted these rows since. A plain read
   * after the statement finds them again.
   */
  readonly outdated: ReadonlySet<string>;
}

const NO_KEYS: KeysBefore = { existing: new Set(), outdated: new Set() };

/**
 * Reads the keys of rows that conflict with the values, and locks those that exist. Also sets the variables of the connection to empty
 * texts, because the variables must exist before the statement that fills them.
 */
async function keysBefore(write: CapturedWrite, conditions: readonly string[]): Promise<KeysBefore> {
  const reset = "(SELECT @webhooks_met := '' AS wh_met, @webhooks_keys := '' AS wh_keys) wh_reset";
  const { name } = write.table;
  const on = conditions.length ? conditions.join(' OR ') : '1 = 0';
  const key = `${keyText(write)} AS wh_key`;
  const rows = await queryRows(
    write,
    `(SELECT ${key}, 1 AS wh_exists FROM ${reset} LEFT JOIN ${name} ON ${on} FOR UPDATE) UNION ALL (SELECT ${key}, 0 FROM ${name} WHERE ${on})`,
  );
  const keysOf = (exists: number) =>
    rows.filter((row) => Number(row['wh_exists']) === exists).map((row) => String(row['wh_key']));
  const existing = new Set(keysOf(1));
  return { existing, outdated: new Set(keysOf(0).filter((one) => !existing.has(one))) };
}

/** Leaves out outdated rows. The statement may have inserted a row with the key of an outdated row, so the rows are locked again. */
async function currentRows(
  write: CapturedWrite,
  conditions: readonly string[],
  rows: readonly KeyedRow[],
  outdated: ReadonlySet<string>,
): Promise<readonly KeyedRow[]> {
  const { existing } = await keysBefore(write, conditions);
  return rows.filter(({ key }) => existing.has(key) || !outdated.has(key));
}

async function readUpdatedRows(write: CapturedWrite): Promise<UpdatedRow[]> {
  const [noted] = await queryRows(write, 'SELECT @webhooks_met AS wh_met, @webhooks_keys AS wh_keys');
  const { wh_met: updated, wh_keys: keys } = noted ?? {};
  if (typeof updated !== 'string' || typeof keys !== 'string') throw tooLarge(write);
  if (keys === '') return [];
  const notes = JSON.parse(`[${updated}]`) as { wh_key: string }[];
  const rows = await readNotes(write, updated);
  const after = keys.split(',').slice(1);
  return notes.map(({ wh_key: oldKey }, n) => ({ old: rows[n] ?? null, oldKey, key: after[n] ?? oldKey }));
}

/** The server sets a variable to NULL if its text would be longer than `max_allowed_packet`. */
function tooLarge({ table }: CapturedWrite): CaptureError {
  const { name } = table.metadata;
  return new CaptureError(
    'UPSERT_TOO_LARGE',
    `An upsert of ${name} updated rows whose old values are larger than max_allowed_packet of the server, so their events cannot be made and the write is rolled back. Upsert fewer rows in one call.`,
    { details: { entity: name } },
  );
}

/**
 * The updates that an upsert with IGNORE has made. IGNORE leaves a row as it is if its new values conflict with another row, although the
 * statement has noted the row.
 */
function appliedUpdates(rows: readonly KeyedRow[], updated: readonly UpdatedRow[]): readonly UpdatedRow[] {
  const keys = new Set([...rows, ...updated.map(({ oldKey }) => ({ key: oldKey }))].map(({ key }) => key));
  return updated.filter(({ key, oldKey }) => key === oldKey || keys.has(key));
}

/**
 * The rows that the statement has written. Existing rows that the statement did not update are left out. Rows whose key the statement has
 * changed come first, in the order of the changes, because another row may have got the key that such a row had before.
 */
function writtenRows(
  rows: readonly KeyedRow[],
  existing: ReadonlySet<string>,
  updated: readonly UpdatedRow[],
): WrittenRow[] {
  const traced = tracedRows(existing, updated);
  const written = rows.flatMap((row): WrittenRow[] => {
    const { updated: first, origin } = traced.get(row.key) ?? INSERTED;
    return first || origin !== 'existing' ? [{ ...row, updated: first, origin }] : [];
  });
  const byKey = new Map(written.map((row) => [row.key, row]));
  const moved = [...traced].flatMap(([key, { updated: first }]) => (first && first.oldKey !== key ? [key] : []));
  return [...new Set([...moved, ...byKey.keys()])].flatMap((key) => byKey.get(key) ?? []);
}

/**
 * Decides for each written row whether the row is new. If two value sets name the same row, the statement may insert the row and then
 * update the row.
 *
 * @param expected how many rows the statement has inserted
 * @throws CaptureError `ROWS_MISSED` if another writer has inserted some of the rows, and it is unknown which rows these are
 */
function newAndUpdated(write: CapturedWrite, written: readonly WrittenRow[], expected: number): InsertedRow[] {
  const found = written.filter(({ origin }) => origin === 'inserted').length;
  if (found > expected) throw rowsMissed(write.table.metadata.name, found, expected);
  const unseen = written.filter(({ origin }) => origin === 'unseen').length;
  const missing = expected - found;
  // This statement inserted and then updated some of the rows. Another writer inserted the other rows.
  if (missing > 0 && unseen > missing) throw rowsMissed(write.table.metadata.name, unseen, missing);
  const areNew = missing > 0 && unseen === missing;
  const { onIgnore } = write.builder.expressionMap;
  // INSERT IGNORE silently leaves out rows whose values are invalid.
  if (missing > 0 && !areNew && !(onIgnore && isUpsert(write))) unknownKeys(write);
  return written.flatMap(({ now, updated, origin }): InsertedRow[] => {
    if (!now) return [];
    const isNew = origin === 'inserted' || (areNew && origin === 'unseen');
    return [{ now, old: isNew ? null : (updated?.old ?? null) }];
  });
}

/** Reads the rows of the statement. The statement has locked these rows, and these rows are visible at every isolation level. */
async function readWhere(write: CapturedWrite, conditions: readonly string[]): Promise<KeyedRow[]> {
  if (!conditions.length) return [];
  const { table, runner } = write;
  const list = `${table.list('wh_n', '')}, ${keyText(write)} AS wh_key`;
  const rows = await queryRows(write, `SELECT ${list} FROM ${table.name} WHERE ${conditions.join(' OR ')}`);
  return rows.map((row) => ({ now: table.read(runner, row, 'wh_n'), key: String(row['wh_key']) }));
}

async function queryRows({ builder, runner }: CapturedWrite, text: string): Promise<Row[]> {
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  return (await runner.query(sql, parameters)) as Row[];
}

/**
 * Conditions that match the rows of the value sets by primary key. If rows may conflict, further conditions match by all columns of a
 * unique constraint.
 */
function conflictConditions(write: CapturedWrite, mayConflict: boolean): string[] {
  const dataSource = dataSourceOf(write.runner);
  const valueSets = valueSetsOf(write);
  return [write.table.metadata.primaryColumns, ...(mayConflict ? uniquesOf(write) : [])].flatMap((columns) => {
    const tuples = valueSets.flatMap((valueSet, index) => {
      const values = columns.map((column) => valueOf(write, valueSet, index, column));
      return values.includes(null) ? [] : [values.join(', ')];
    });
    const names = columns.map(({ databaseName }) => `${write.table.name}.${dataSource.driver.escape(databaseName)}`);
    return tuples.length ? [isOneOf(names, tuples, dataSource)] : [];
  });
}

function uniquesOf({ table: { metadata } }: CapturedWrite): (readonly ColumnMetadata[])[] {
  const constraints = [...metadata.uniques, ...metadata.indices.filter(({ isUnique }) => isUnique)];
  return constraints.map(({ columns }) => columns).filter(({ length }) => length > 0);
}

function valueSetsOf({ builder }: CapturedWrite): ObjectLiteral[] {
  return builder.getValueSets?.() ?? [];
}

/**
 * A value of the statement as SQL. `null` if the value is `NULL`, because `NULL` conflicts with nothing. Also `null` if only the database
 * knows the value.
 */
function valueOf(
  { builder, table }: CapturedWrite,
  valueSet: ObjectLiteral,
  index: number,
  column: ColumnMetadata,
): string | null {
  const given: unknown = column.getEntityValue(valueSet);
  if (given === null) return null;
  if (given !== undefined) return builder.createColumnValueExpression?.([valueSet], 0, column) ?? null;
  const generated = builder.expressionMap.locallyGenerated[index];
  const value: unknown = generated && column.getEntityValue(generated);
  if (value !== undefined && value !== null) return builder.createParameter(value);
  // Any other default is an expression. An expression may have a different value each time.
  if (!['string', 'number', 'boolean'].includes(typeof column.default)) return null;
  return `DEFAULT(${table.name}.${dataSourceOf(builder).driver.escape(column.databaseName)})`;
}

/** The condition that matches rows by their auto-increment numbers. Used for rows that cannot be found by unique values. */
async function numbersCondition(write: CapturedWrite, { raw }: BuilderResult, mayConflict: boolean): Promise<string[]> {
  const { builder, table, runner } = write;
  const { primaryColumns, generatedColumns } = table.metadata;
  const valueSets = valueSetsOf(write);
  const isKnown = (columns: readonly ColumnMetadata[], valueSet: ObjectLiteral, index: number) =>
    columns.every((column) => valueOf(write, valueSet, index, column) !== null);
  const keyless = valueSets.filter((valueSet, index) => !isKnown(primaryColumns, valueSet, index));
  const isRecognised = (valueSet: ObjectLiteral) => uniquesOf(write).some((columns) => isKnown(columns, valueSet, -1));
  if (!keyless.length || (mayConflict && keyless.every(isRecognised))) return [];
  const increment = generatedColumns.find(({ generationStrategy }) => generationStrategy === 'increment');
  const { insertId } = raw as { insertId?: number | string };
  if (!increment || !insertId) return [];
  const [row] = (await runner.query('SELECT @@auto_increment_increment AS step')) as { step: unknown }[];
  const step = Number(row?.step);
  // The numbers are consecutive. An upsert also takes a number for each row that it updates.
  const numbers = (mayConflict ? valueSets : keyless).map((_, n) =>
    builder.createParameter((BigInt(insertId) + BigInt(n * step)).toString()),
  );
  return [`${dataSourceOf(runner).driver.escape(increment.databaseName)} IN (${numbers.join(', ')})`];
}

/**
 * The condition that matches updated rows by their old keys. This condition is needed because the values of the statement may not contain
 * the key.
 */
function updatedConditions({ builder, table, runner }: CapturedWrite, updated: readonly UpdatedRow[]): string[] {
  const dataSource = dataSourceOf(runner);
  const tuples = updated.flatMap(({ old }) => {
    if (!old) return [];
    const { entity, exact } = old.image;
    const values = table.metadata.primaryColumns.map((column): unknown =>
      dataSource.driver.preparePersistentValue(keyValue(column, entity, exact), column.referencedColumn ?? column),
    );
    return [values.map((value) => builder.createParameter(value)).join(', ')];
  });
  const names = table.metadata.primaryColumns.map(
    ({ databaseName }) => `${table.name}.${dataSource.driver.escape(databaseName)}`,
  );
  return tuples.length ? [isOneOf(names, tuples, dataSource)] : [];
}

function unknownKeys(write: CapturedWrite): void {
  write.warn(
    'KEYS_NOT_RETURNED',
    `Rows of ${write.table.metadata.name} were inserted with keys that the database generated and the driver does not return. These rows make no events. Set the keys yourself, insert rows with and without keys in separate calls, or use save().`,
  );
}
