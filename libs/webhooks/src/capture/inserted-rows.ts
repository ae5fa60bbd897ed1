import type { ObjectLiteral } from 'typeorm';
import { beforeOf, ROWS_PER_BATCH, rowsMissed, withoutImages } from './affected-rows.js';
import type { CapturedWrite, StatementResult } from './bulk-writes.js';
import type { ColumnMetadata } from './canonical-value.js';
import type { RowChange } from './transaction-log.js';
import type { ReadRow } from './written-table.js';

type Send = (text: string, parameters: unknown[]) => Promise<StatementResult>;
type Row = Record<string, unknown>;

/** A row that an insert may meet or make, and the values by which it is recognised. */
interface FoundRow extends ReadRow {
  /** A text for the primary key and for each unique constraint, `null` where one of its values is. */
  readonly marks: readonly (string | null)[];
  /** Of a row that an upsert has met, on server databases: it was there, whether it had been read before or not. */
  readonly wasThere: boolean;
}

/**
 * An insert, with or without an answer to conflicts. The rows come from `RETURNING`, or, where the driver has none, are found by
 * what is unique of them; those that an upsert may meet are read and locked before it.
 */
export async function insertRows(write: CapturedWrite, send: Send): Promise<Send> {
  const { expressionMap } = write.builder;
  const { onUpdate, onIgnore, insertFromSelect } = expressionMap;
  const isUpsert = onUpdate !== undefined && (onUpdate.overwrite ?? onUpdate.columns ?? []).length > 0;
  const canReturn = returns(write);
  if (insertFromSelect && (isUpsert || !canReturn)) return uncaptured(write, send);
  if (insertFromSelect) return insertSelected(write, send);
  return async (text, parameters) => {
    const uniques = uniquesOf(write);
    const isGuarded = isUpsert || (!canReturn && (onIgnore === true || onUpdate !== undefined));
    const conflicting = isGuarded ? conflictCondition(write, uniques) : null;
    const met = conflicting !== null && isUpsert && write.dialect === 'mysql' ? new MetRows(write, canReturn) : null;
    const before = conflicting === null ? [] : await readConflicting(write, uniques, conflicting, met);
    let rows: FoundRow[] | null;
    let result: StatementResult;
    const statement = met?.noting(text) ?? text;
    if (canReturn) {
      const returned = await sendReturning(write, send, statement, parameters, { uniques, met });
      result = returned.result;
      rows = await completed(write, returned.rows);
    } else {
      result = await send(statement, parameters);
      // Of an INSERT IGNORE that inserted nothing another writer was first.
      const isNothing = onIgnore === true && result.affected === 0;
      rows = isNothing ? [] : await findInserted(write, { uniques, met }, result, isGuarded);
    }
    if (!rows) unknownKeys(write);
    else {
      const changes = changesOf(write, before, rows, isUpsert);
      // Which of them another writer inserted meanwhile, nobody can tell.
      if (!canReturn && onIgnore === true && changes.length > (result.affected ?? 0)) {
        throw rowsMissed(write.table.metadata.name, changes.length, result.affected);
      }
      await write.record(changes);
    }
    return result;
  };
}

/**
 * Has an upsert on MySQL and MariaDB note the keys of the rows that it meets, in a variable of the connection: those that other writers
 * have inserted since the conflicting rows were read. The count of a statement says that there were such, but not which.
 */
class MetRows {
  /** Joined to the read of the conflicting rows: the variable must be there, and empty, before the statement that fills it. */
  static readonly RESET = " JOIN (SELECT @webhooks_met := '' AS wh_reset) wh_reset";
  private readonly column: string;
  private readonly key: string;

  constructor(
    { table, runner }: CapturedWrite,
    private readonly isReturning: boolean,
  ) {
    const { driver } = runner.dataSource;
    const columns = table.metadata.primaryColumns.map(({ databaseName }) => driver.escape(databaseName));
    this.column = columns[0] as string;
    this.key = `CONCAT_WS('.', ${columns.map((column) => `HEX(CAST(${column} AS BINARY))`).join(', ')})`;
  }

  /** The last assignment, so that the key is what the others have made of it, and it changes nothing. */
  noting(statement: string): string {
    const end = this.isReturning ? statement.lastIndexOf(' RETURNING ') : statement.length;
    const noted = `@webhooks_met := CONCAT(@webhooks_met, ',', ${this.key})`;
    const { column } = this;
    return `${statement.slice(0, end)}, ${column} = IF((${noted}) IS NULL, ${column}, ${column})${statement.slice(end)}`;
  }

  /** Whether a row is one of them. */
  get selected(): string {
    return `FIND_IN_SET(${this.key}, @webhooks_met) > 0 AS wh_there`;
  }
}

/** By what rows are recognised, and which of them were there. */
interface Recognition {
  readonly uniques: readonly (readonly ColumnMetadata[])[];
  readonly met: MetRows | null;
}

/** TypeORM's SQLite driver asks for no RETURNING, but SQLite has it. Of MariaDB it changes what the caller gets. */
function returns({ dialect, builder }: CapturedWrite): boolean {
  if (dialect !== 'mysql') return true;
  return builder.dataSource.driver.isReturningSqlSupported('insert') && hasReturning(builder);
}

/** Whether the statement ends with a RETURNING of TypeORM's or the caller's. Asked for when it is composed. */
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

/** A row that was there before is an update of it, any other one is new. */
function changesOf(
  write: CapturedWrite,
  before: readonly FoundRow[],
  rows: readonly FoundRow[],
  isUpsert: boolean,
): RowChange[] {
  const known = new Map<string, FoundRow>();
  for (const row of before) row.marks.forEach((mark, n) => mark !== null && known.set(`${n} ${mark}`, row));
  const seen = new Set<FoundRow['image']['key']>();
  return rows.flatMap((row): RowChange[] => {
    const { definition, image } = row;
    // One statement may name a row twice on MySQL; it is told as it is in the end.
    if (seen.has(image.key)) return [];
    seen.add(image.key);
    const found = row.marks.map((mark, n) => (mark === null ? undefined : known.get(`${n} ${mark}`)));
    const old = found.find((one) => one !== undefined);
    if (!old) {
      // Another writer inserted it after conflicting rows were read: what it was before this update, nobody knows any more.
      const action = row.wasThere ? 'updated' : 'created';
      return definition.needs(action) ? [write.change(action, definition, null, image)] : [];
    }
    if (!isUpsert || !definition.needs('updated')) return [];
    return [write.change('updated', definition, beforeOf(definition, old.image), image)];
  });
}

async function sendReturning(
  write: CapturedWrite,
  send: Send,
  text: string,
  parameters: unknown[],
  { uniques, met }: Recognition,
): Promise<{ result: StatementResult; rows: FoundRow[] }> {
  const { dialect, table } = write;
  const isAsked = dialect !== 'sqlite' && hasReturning(write.builder);
  const list = [table.list('wh_n', ''), marksList(write, uniques)].filter(Boolean);
  if (dialect === 'sqlite' && !table.metadata.withoutRowid) list.push('rowid AS "wh_rowid"');
  if (met) list.push(met.selected);
  // Only of a row that was there, and was locked to be updated, `xmax` is not 0.
  if (dialect === 'postgres' && write.builder.expressionMap.onUpdate && !(await isPartitioned(write))) {
    list.push('(xmax <> 0) AS "wh_there"');
  }
  const result = await send(`${text}${isAsked ? ', ' : ' RETURNING '}${list.join(', ')}`, parameters);
  const rows = found(write, result.records, uniques);
  if (dialect !== 'sqlite') return { result: withoutImages(result, { hasAsked: isAsked, isInsert: true }), rows };
  // As better-sqlite3 answers a statement that returns nothing.
  const last = result.records.at(-1)?.['wh_rowid'] ?? (await lastRowId(write));
  return { result: Object.assign(result, { affected: result.records.length, raw: last, records: [] }), rows };
}

const partitioned = new WeakMap<object, Promise<boolean>>();

/** A partitioned table has no `xmax` to return. Asked for once. */
function isPartitioned({ table, runner }: CapturedWrite): Promise<boolean> {
  let answer = partitioned.get(table);
  if (!answer) {
    const asked = runner.query('SELECT relkind FROM pg_class WHERE oid = $1::regclass', [table.name]);
    answer = asked.then((rows: { relkind: string }[]) => rows[0]?.relkind === 'p');
    partitioned.set(table, answer);
    // Asked again when it failed.
    answer.catch(() => partitioned.delete(table));
  }
  return answer;
}

async function lastRowId({ runner }: CapturedWrite): Promise<unknown> {
  const [row] = (await runner.query('SELECT last_insert_rowid() AS id')) as { id: unknown }[];
  return row?.id;
}

function found(
  write: CapturedWrite,
  records: readonly Row[],
  uniques: readonly (readonly ColumnMetadata[])[],
): FoundRow[] {
  return records.flatMap((record) => {
    const read = write.table.read(write.runner, record, 'wh_n');
    if (!read) return [];
    const marks = uniques.map((columns, n) => {
      const values = columns.map((_, m) => record[`wh_u${n}_${m}`]);
      return values.includes(null) ? null : JSON.stringify(values.map(String));
    });
    return [{ ...read, marks: [read.image.key, ...marks], wasThere: Boolean(Number(record['wh_there'] ?? 0)) }];
  });
}

/** Where a statement could give keys only, whole images. */
async function completed(write: CapturedWrite, rows: FoundRow[]): Promise<FoundRow[]> {
  if (write.table.isWhole) return rows;
  const byKey = new Map(rows.map((row) => [row.image.key, row]));
  const whole = await write.table.complete(write.runner, rows);
  return whole.map((row) => ({ marks: [], wasThere: false, ...byKey.get(row.image.key), ...row }));
}

function marksList({ runner }: CapturedWrite, uniques: readonly (readonly ColumnMetadata[])[]): string {
  const { driver } = runner.dataSource;
  return uniques
    .flatMap((columns, n) =>
      columns.map(({ databaseName }, m) => `${driver.escape(databaseName)} AS ${driver.escape(`wh_u${n}_${m}`)}`),
    )
    .join(', ');
}

/** By what a row may conflict, besides its key: what the statement names, or every unique constraint. */
function uniquesOf({ builder, table, dialect }: CapturedWrite): (readonly ColumnMetadata[])[] {
  const { metadata } = table;
  const { onUpdate, onIgnore } = builder.expressionMap;
  if (!onUpdate && !onIgnore) return [];
  const conflict = dialect === 'mysql' ? undefined : onUpdate?.conflict;
  if (Array.isArray(conflict)) {
    const columns = (conflict as readonly string[]).map((name) => metadata.findColumnWithDatabaseName(name));
    return [columns.filter((column) => column !== undefined)];
  }
  const constraints = [...metadata.uniques, ...metadata.indices.filter(({ isUnique }) => isUnique)];
  const named = constraints.filter(({ name }) => name === conflict);
  return (named.length ? named : constraints).map(({ columns }) => columns);
}

/** The rows that the values of an insert would meet, as they are before it, locked. */
async function readConflicting(
  write: CapturedWrite,
  uniques: readonly (readonly ColumnMetadata[])[],
  condition: string,
  met: MetRows | null,
): Promise<FoundRow[]> {
  return completed(write, await readWhere(write, { uniques, met: null }, condition, met ? MetRows.RESET : ''));
}

async function readWhere(
  write: CapturedWrite,
  { uniques, met }: Recognition,
  condition: string,
  joined = '',
): Promise<FoundRow[]> {
  const { builder, table, runner, dialect } = write;
  const list = [table.list('wh_n', ''), marksList(write, uniques), met?.selected].filter(Boolean).join(', ');
  const text = `SELECT ${list} FROM ${table.name}${joined} WHERE ${condition}${dialect === 'sqlite' ? '' : ' FOR UPDATE'}`;
  const [sql, parameters] = runner.dataSource.driver.escapeQueryWithParameters(text, builder.getParameters());
  return found(write, (await runner.query(sql, parameters)) as Row[], uniques);
}

/** `null` when no row of the statement has a value for anything unique. */
function conflictCondition(write: CapturedWrite, uniques: readonly (readonly ColumnMetadata[])[]): string | null {
  const { builder, table, runner, dialect } = write;
  const { driver } = runner.dataSource;
  const valueSets = builder.getValueSets?.() ?? [];
  const conditions: string[] = [];
  for (const columns of [table.metadata.primaryColumns, ...uniques]) {
    const tuples = valueSets.flatMap((valueSet, index) => {
      const values = columns.map((column) => valueOf(write, valueSet, index, column));
      return values.includes(null) ? [] : [values.join(', ')];
    });
    if (!tuples.length) continue;
    const names = columns.map(({ databaseName }) => driver.escape(databaseName)).join(', ');
    const isOne = columns.length === 1;
    const list = isOne ? tuples : tuples.map((tuple) => `(${tuple})`);
    conditions.push(
      `${isOne ? names : `(${names})`} IN (${!isOne && dialect === 'sqlite' ? 'VALUES ' : ''}${list.join(', ')})`,
    );
  }
  return conditions.length ? conditions.join(' OR ') : null;
}

/** A value of the statement as SQL; `null` where the database fills it in. */
function valueOf(
  { builder }: CapturedWrite,
  valueSet: ObjectLiteral,
  index: number,
  column: ColumnMetadata,
): string | null {
  const given: unknown = column.getEntityValue(valueSet);
  if (given !== undefined && given !== null) {
    return builder.createColumnValueExpression?.([valueSet], 0, column) ?? null;
  }
  const generated = builder.expressionMap.locallyGenerated[index];
  const value: unknown = given === undefined && generated ? column.getEntityValue(generated) : undefined;
  return value === undefined || value === null ? null : builder.createParameter(value);
}

/** Without RETURNING: by what is unique of the rows, or by the numbers that were drawn for them. */
async function findInserted(
  write: CapturedWrite,
  recognition: Recognition,
  { raw, affected }: StatementResult,
  isGuarded: boolean,
): Promise<FoundRow[] | null> {
  const { builder, table, runner } = write;
  const { driver } = runner.dataSource;
  const valueSets = builder.getValueSets?.() ?? [];
  const conditions: string[] = [];
  const { primaryColumns, generatedColumns } = table.metadata;
  const increment = generatedColumns.find(({ generationStrategy }) => generationStrategy === 'increment');
  const hasKey = (valueSet: ObjectLiteral, index: number) =>
    primaryColumns.every((column) => valueOf(write, valueSet, index, column) !== null);
  const keyless = valueSets.filter((valueSet, index) => !hasKey(valueSet, index));
  const isRecognised = (valueSet: ObjectLiteral) =>
    recognition.uniques.some((columns) => columns.every((column) => valueOf(write, valueSet, -1, column) !== null));
  if (keyless.length && !(isGuarded && keyless.every(isRecognised))) {
    const { insertId } = raw as { insertId?: number | string };
    // Numbers of one insert follow each other only when the server draws all of them.
    if (!increment || !insertId || keyless.length !== valueSets.length) {
      if (affected === 0) return [];
      return null;
    }
    const [row] = (await runner.query('SELECT @@auto_increment_increment AS step')) as { step: unknown }[];
    const step = Number(row?.step);
    const numbers = valueSets.map((_, n) => builder.createParameter((BigInt(insertId) + BigInt(n * step)).toString()));
    conditions.push(`${driver.escape(increment.databaseName)} IN (${numbers.join(', ')})`);
  }
  const known = conflictCondition(write, recognition.uniques);
  if (known) conditions.push(known);
  if (!conditions.length) return [];
  return completed(write, await readWhere(write, recognition, conditions.join(' OR ')));
}

/** Keys are returned, and images read batch by batch: a select may give any number of rows. */
async function insertSelected(write: CapturedWrite, send: Send): Promise<Send> {
  const { table, runner, dialect, builder } = write;
  const { driver } = runner.dataSource;
  const definition = table.definitions.find(({ metadata }) => metadata === table.metadata);
  if (!definition) return send;
  return async (text, parameters) => {
    const isAsked = dialect !== 'sqlite' && hasReturning(builder);
    const keys = table.metadata.primaryColumns.map(
      ({ databaseName }, n) => `${driver.escape(databaseName)} AS ${driver.escape(`wh_k${n}`)}`,
    );
    const result = await send(`${text}${isAsked ? ', ' : ' RETURNING '}${keys.join(', ')}`, parameters);
    const { records } = result;
    for (let start = 0; start < records.length; start += ROWS_PER_BATCH) {
      const ids = records.slice(start, start + ROWS_PER_BATCH).map((record) => {
        const id: ObjectLiteral = {};
        table.metadata.primaryColumns.forEach((column, n) => {
          const typed = column.referencedColumn ?? column;
          const value: unknown = driver.prepareHydratedValue(record[`wh_k${n}`], typed);
          column.setEntityValue(id, column.isVirtual ? typed.createValueMap(value) : value);
        });
        return id;
      });
      const images = await table.imagesNow(runner, definition, ids);
      await write.recordBatch([...images.values()].map((image) => write.change('created', definition, null, image)));
    }
    if (dialect !== 'sqlite') return withoutImages(result, { hasAsked: isAsked, isInsert: true });
    return Object.assign(result, { affected: records.length, raw: await lastRowId(write), records: [] });
  };
}

function uncaptured(write: CapturedWrite, send: Send): Send {
  return (text, parameters) => {
    write.warn(
      'INSERT_SELECT_NOT_CAPTURED',
      `An INSERT … SELECT into ${write.table.metadata.name} makes no events ${write.dialect === 'mysql' ? 'on this database, whose driver does not return what was inserted' : 'when it also updates'}. Read the rows and insert() or upsert() them where events are wanted.`,
    );
    return send(text, parameters);
  };
}

function unknownKeys(write: CapturedWrite): void {
  write.warn(
    'KEYS_NOT_RETURNED',
    `Rows of ${write.table.metadata.name} were inserted whose keys the database has made and its driver does not return; they make no events. Give the keys, insert rows with and without them apart, or use save().`,
  );
}
