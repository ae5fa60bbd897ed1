import type { DataSource } from 'typeorm';
import type { CapturedWrite } from './captured-write.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { SelectedColumn } from '../plans/image-select.js';
import { mayChangeKey, overwrittenColumns } from './record-inserted.js';
import type { RowNotes } from './row-notes.js';
import { SqliteNotes } from './sqlite-notes.js';
import { mysqlColumn } from '../triggers/mysql-triggers.js';
import { literal } from '../triggers/trigger-sql.js';
import type { WriteBuilder } from '../typeorm/write-builder.js';
import type { ReadRow } from '../images/written-table.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Row = Record<string, unknown>;

/** @param write a write whose statement is not composed yet */
export async function createNotes(write: CapturedWrite): Promise<RowNotes> {
  if (write.dialect === 'sqlite') return SqliteNotes.on(write);
  return write.dialect === 'postgres' ? new PostgresNotes(write) : new MysqlNotes(write);
}

/**
 * Notes rows in a setting of the transaction. When the upsert updates a row, it sets the setting. When the upsert returns the row, it reads
 * and empties the setting.
 */
class PostgresNotes implements RowNotes {
  private static readonly MET = "current_setting('webhooks.met', true)";
  readonly returned = {
    list: `NULLIF(${PostgresNotes.MET}, '') AS "wh_met", set_config('webhooks.met', '', true) AS "wh_reset"`,
    parameters: [],
  };

  constructor(private readonly write: CapturedWrite) {
    const { builder } = write;
    const { onUpdate } = builder.expressionMap;
    if (!onUpdate) return;
    const conditions = onUpdate.overwriteCondition ?? [];
    const isConditional = conditions.length > 0 || onUpdate.skipUpdateIfNoValuesChanged === true;
    const original = builder.createUpsertConditionExpression?.bind(builder);
    // TypeORM composes the condition of an upsert only if the builder has one, so give the builder a condition.
    const always = { type: 'simple', condition: '1=1' };
    builder.expressionMap.onUpdate = {
      ...onUpdate,
      overwriteCondition: conditions.length ? [...conditions] : [always],
    };
    builder.createUpsertConditionExpression = () => {
      const table = insertedName(builder);
      const condition = (isConditional && original?.(table)) || 'TRUE';
      const noted = `set_config('webhooks.met', ${this.note(table)}, true) IS NOT NULL`;
      return `CASE WHEN ${condition} THEN ${noted} ELSE FALSE END`;
    };
  }

  async begin(): Promise<void> {}

  end(): void {}

  notingStatement(text: string, parameters: unknown[]): [string, unknown[]] {
    return [text, parameters];
  }

  read(records: readonly Row[]): Promise<(ReadRow | null)[]> {
    return readReturned(this.write, records);
  }

  /** JSON of the columns. The value of a JSON column stays JSON. Every other value becomes a text. */
  private note(table: string): string {
    const pairs = this.write.table.noted.columns.map(({ databaseName, name, column }) => {
      const text = `${table}.${name}::text`;
      const json = isJson(column) ? text : `to_json(${text})::text`;
      return `${literal(`${JSON.stringify(databaseName)}:`)} || COALESCE(${json}, 'null')`;
    });
    return `'{' || ${pairs.join(" || ',' || ")} || '}'`;
  }
}

/**
 * The name of the existing row in an upsert. TypeORM 1.x passes this name to the method that composes the condition. TypeORM 0.3 does not
 * pass the name, so the name is derived here.
 */
function insertedName(builder: WriteBuilder): string {
  const path = builder.getMainTableName();
  return builder.alias === path ? builder.getTableName(path) : dataSourceOf(builder).driver.escape(builder.alias);
}

/**
 * Notes rows in a variable of the connection. The variable must exist before the statement, because MySQL and MariaDB treat a missing
 * variable as a constant. The first assignment of the statement notes the row, before the other assignments change it.
 */
class MysqlNotes implements RowNotes {
  /**
   * Whether a note may be left over. IGNORE leaves a row as it is if its new values conflict with another row, and does not return the row.
   * The next returned row then finds a note, which belongs to it only if the row has the key that the noted row should get.
   */
  private readonly mayBeLeft: boolean;

  constructor(private readonly write: CapturedWrite) {
    this.mayBeLeft = write.builder.expressionMap.onIgnore === true && mayChangeKey(write);
  }

  get returned(): RowNotes['returned'] {
    const met = this.mayBeLeft ? `IF(@webhooks_key = ${keyText(this.write)}, @webhooks_met, '')` : '@webhooks_met';
    return { list: `NULLIF(${met}, '') AS wh_met, @webhooks_met := '' AS wh_reset`, parameters: [] };
  }

  async begin(): Promise<void> {
    await this.write.runner.query("SET @webhooks_met = '', @webhooks_key = ''");
  }

  end(): void {}

  notingStatement(text: string, parameters: unknown[]): [string, unknown[]] {
    const noting = assigningFirst(this.write, text, `@webhooks_met := ${mysqlNote(this.write)}`);
    if (!this.mayBeLeft) return [noting, parameters];
    // A driver that returns rows gets a statement with RETURNING at its end.
    const end = noting.lastIndexOf(' RETURNING ');
    const assigning = assigningLast(this.write, noting.slice(0, end), `@webhooks_key := ${keyText(this.write)}`);
    return [assigning + noting.slice(end), parameters];
  }

  read(records: readonly Row[]): Promise<(ReadRow | null)[]> {
    return readReturned(this.write, records);
  }
}

const ON_DUPLICATE = ' ON DUPLICATE KEY UPDATE ';

/**
 * Evaluates an expression for each row that an upsert updates on MySQL. The expression is in an additional first assignment. This
 * assignment does not change its column.
 */
export function assigningFirst(write: CapturedWrite, statement: string, expression: string): string {
  const start = statement.lastIndexOf(ON_DUPLICATE) + ON_DUPLICATE.length;
  return `${statement.slice(0, start)}${unchanged(write, expression)}, ${statement.slice(start)}`;
}

/** As {@link assigningFirst}, but the additional assignment is the last one. */
export function assigningLast(write: CapturedWrite, statement: string, expression: string): string {
  return `${statement}, ${unchanged(write, expression)}`;
}

function unchanged({ builder, table }: CapturedWrite, expression: string): string {
  const { onUpdate } = builder.expressionMap;
  const [assigned = ''] = onUpdate ? overwrittenColumns(onUpdate) : [];
  const column = `${table.name}.${dataSourceOf(builder).driver.escape(assigned)}`;
  return `${column} = IF((${expression}) IS NULL, ${column}, ${column})`;
}

/** The SQL of the text of a primary key on MySQL, for a comparison byte by byte. */
export function keyText({ table, runner }: CapturedWrite): string {
  const { driver } = dataSourceOf(runner);
  const columns = table.metadata.primaryColumns.map(
    ({ databaseName }) => `${table.name}.${driver.escape(databaseName)}`,
  );
  return `CONCAT_WS('.', ${columns.map((column) => `HEX(CAST(${column} AS BINARY))`).join(', ')})`;
}

/** The SQL expression that makes JSON of a row, for use in an assignment. @param more further names and values of the object, as SQL */
export function mysqlNote({ table, runner }: CapturedWrite, more: readonly string[] = []): string {
  const pairs = table.noted.columns.map(({ databaseName, name, column }) => {
    return `${literal(databaseName)}, ${mysqlNoted(column, dataSourceOf(runner)).written(`${table.name}.${name}`)}`;
  });
  return `JSON_OBJECT(${[...pairs, ...more].join(', ')})`;
}

/** The noted rows of returned records, in the order of the records; `null` for a record without a note. */
async function readReturned(write: CapturedWrite, records: readonly Row[]): Promise<(ReadRow | null)[]> {
  const notes = records.flatMap(({ wh_met: met }) => (met === null ? [] : [met as string]));
  const rows = notes.length ? await readNotes(write, notes.join(',')) : [];
  let next = 0;
  return records.map(({ wh_met: met }) => (met === null ? null : (rows[next++] ?? null)));
}

/**
 * Reads notes as rows. The database converts the noted values back to the types of the columns. So the driver returns the same values as
 * for a row of the table.
 *
 * @param notes JSON objects, separated by commas
 */
export async function readNotes({ table, runner, dialect }: CapturedWrite, notes: string): Promise<(ReadRow | null)[]> {
  const dataSource = dataSourceOf(runner);
  const isPostgres = dialect === 'postgres';
  const { noted } = table;
  const source = isPostgres ? postgresSource(table.name) : mysqlSource(noted.columns, dataSource);
  const list = noted.list('wh_o', (column) =>
    isPostgres ? postgresValue(column, dataSource) : mysqlValue(column, dataSource),
  );
  const rows = (await runner.query(`SELECT ${list} FROM ${source} ORDER BY wh_n`, [`[${notes}]`])) as Row[];
  return rows.map((row) => noted.read(runner, row, 'wh_o'));
}

function postgresSource(table: string): string {
  return `json_array_elements($1::json) WITH ORDINALITY wh_e (wh_note, wh_n), json_populate_record(NULL::${table}, wh_e.wh_note) wh_o`;
}

function mysqlSource(columns: readonly SelectedColumn[], dataSource: DataSource): string {
  const list = columns.map(({ databaseName, name, column }) => {
    const path = literal(`$.${JSON.stringify(databaseName)}`);
    return `${name} ${mysqlNoted(column, dataSource).type} PATH ${path} ERROR ON ERROR`;
  });
  return `JSON_TABLE(?, '$[*]' COLUMNS (wh_n FOR ORDINALITY, ${list.join(', ')})) wh_o`;
}

function postgresValue({ name, column }: SelectedColumn, { driver }: DataSource): string {
  const value = `wh_o.${name}`;
  if (!driver.spatialTypes.includes(column.type)) return value;
  // TypeORM selects spatial columns by the same expression.
  return `ST_AsGeoJSON(${value}${column.precision ? `, ${column.precision}` : ''})::json`;
}

function mysqlValue({ name, column }: SelectedColumn, dataSource: DataSource): string {
  return mysqlNoted(column, dataSource).read(`wh_o.${name}`);
}

function mysqlNoted(column: ColumnMetadata, dataSource: DataSource): ReturnType<typeof mysqlColumn> {
  const noted = mysqlColumn(column, dataSource);
  if (!dataSource.driver.spatialTypes.includes(column.type)) return noted;
  const { legacySpatialSupport: isLegacy } = dataSource.options as { legacySpatialSupport?: boolean };
  // TypeORM selects spatial columns by the same expression.
  return { ...noted, written: (value) => `${isLegacy ? 'AsText' : 'ST_AsText'}(${value})` };
}

function isJson({ type, isArray }: ColumnMetadata): boolean {
  return (type === 'json' || type === 'jsonb') && !isArray;
}
