import type { DataSource, QueryRunner } from 'typeorm';
import { dialectOf, escapedPath } from '../../dialect.js';
import { SHADOW_COLUMNS, type ShadowedTable } from './shadow-table.js';
import { dataSourceOf } from '../../typeorm-compat.js';

/** A shadow that exists in the database. */
export interface InstalledShadow {
  readonly table: ShadowedTable;
  /** The escaped path of the shadow table. */
  readonly path: string;
}

/** The names of a table and its shadow in statements. */
interface Place {
  readonly table: ShadowedTable;
  readonly path: string;
  readonly shadow: string;
  /** Puts a name into the schema (or database) of the table. The triggers must be in the same schema as the table. */
  readonly inSchema: (name: string) => string;
  readonly escape: (name: string) => string;
}

const OPERATIONS = ['insert', 'update', 'delete'] as const;
type Operation = (typeof OPERATIONS)[number];

/** Creates a shadow and its triggers. Replaces the shadow of an earlier witness that was not removed. */
export async function installShadow(runner: QueryRunner, table: ShadowedTable): Promise<InstalledShadow> {
  const place = await placeOf(runner, table);
  for (const statement of [...removal(dataSourceOf(runner), place), ...creation(dataSourceOf(runner), place)]) {
    await runner.query(statement);
  }
  return { table, path: place.shadow };
}

/** Removes a shadow and its triggers. */
export async function removeShadow(runner: QueryRunner, { table }: InstalledShadow): Promise<void> {
  const place = await placeOf(runner, table);
  for (const statement of removal(dataSourceOf(runner), place)) await runner.query(statement);
}

async function placeOf(runner: QueryRunner, table: ShadowedTable): Promise<Place> {
  const dataSource = dataSourceOf(runner);
  const escape = (name: string) => dataSource.driver.escape(name);
  const path = escapedPath(table.metadata.tablePath, dataSource.driver);
  const schema = await schemaOf(runner, path, table);
  const inSchema = (name: string) => (schema === null ? escape(name) : `${escape(schema)}.${escape(name)}`);
  const placed = inSchema(table.metadata.tableName);
  return { table, path: placed, shadow: inSchema(table.shadow), inSchema, escape };
}

/**
 * The schema of the table. The schema is read from PostgreSQL and written into the trigger function, because that
 * function sets another `search_path`.
 */
async function schemaOf(runner: QueryRunner, path: string, { metadata }: ShadowedTable): Promise<string | null> {
  switch (dialectOf(dataSourceOf(runner).options.type)) {
    case 'postgres': {
      const found = (await runner.query(
        'SELECT n.nspname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)',
        [path],
      )) as { name: string }[];
      return found[0]?.name ?? null;
    }
    case 'mysql':
      return metadata.tablePath.includes('.') ? (metadata.tablePath.split('.')[0] as string) : null;
    case 'sqlite':
      return null;
  }
}

function creation(dataSource: DataSource, place: Place): string[] {
  switch (dialectOf(dataSource.options.type)) {
    case 'postgres':
      return postgresCreation(place);
    case 'mysql':
      return mysqlCreation(place);
    case 'sqlite':
      return sqliteCreation(place);
  }
}

function removal(dataSource: DataSource, place: Place): string[] {
  const { table, path, shadow, escape } = place;
  if (dialectOf(dataSource.options.type) === 'postgres') {
    // CASCADE also drops the triggers that call the function.
    return [`DROP FUNCTION IF EXISTS ${place.inSchema(table.shadow)}() CASCADE`, `DROP TABLE IF EXISTS ${shadow}`];
  }
  const isMysql = path.startsWith('`');
  const triggers = OPERATIONS.map((operation) => {
    const name = triggerName(table, operation);
    return `DROP TRIGGER IF EXISTS ${isMysql ? place.inSchema(name) : escape(name)}`;
  });
  return [...triggers, `DROP TABLE IF EXISTS ${shadow}`];
}

function triggerName({ shadow }: ShadowedTable, operation: Operation): string {
  return `${shadow}_${operation}`;
}

/** The columns of the table that the shadow copies, with a qualifier before each. */
function names({ table, escape }: Place, prefix: 'OLD.' | 'NEW.' | 't.' | '' = ''): string {
  return table.columns.map(({ databaseName }) => prefix + escape(databaseName)).join(', ');
}

function ownColumns(): string {
  const { seq, op, image, transaction } = SHADOW_COLUMNS;
  return [seq, op, image, transaction].join(', ');
}

/**
 * Returns the statement that creates the shadow. CREATE TABLE AS copies the types of columns, but no constraints. `own` has values that
 * define the types of the shadow's own columns.
 */
function createTable(place: Place, own: { seq: string; transaction: string }, definition = ''): string {
  const { seq, op, image, transaction } = SHADOW_COLUMNS;
  const columns = `${own.seq} AS ${seq}, 'update' AS ${op}, 'old' AS ${image}, ${own.transaction} AS ${transaction}`;
  return `CREATE TABLE ${place.shadow} ${definition} AS SELECT ${columns}, ${names(place, 't.')} FROM ${place.path} t WHERE 1 = 0`;
}

function insertInto(place: Place, image: 'old' | 'new', own: { seq: string; op: string; transaction: string }): string {
  const prefix = image === 'old' ? 'OLD.' : 'NEW.';
  return `INSERT INTO ${place.shadow} (${ownColumns()}, ${names(place)}) VALUES (${own.seq}, ${own.op}, '${image}', ${own.transaction}, ${names(place, prefix)});`;
}

/**
 * With SECURITY DEFINER, a role that writes the table needs no rights on the shadow. PostgreSQL runs triggers in the order of their
 * names. The names of these triggers begin with 0. So they run before the application's triggers. An application's trigger may write
 * the same row again.
 */
function postgresCreation(place: Place): string[] {
  const { table, path, shadow, escape } = place;
  const name = place.inSchema(table.shadow);
  const sequence = place.inSchema(`${table.shadow}_seq`);
  const own = { seq: 'v_seq', op: 'lower(TG_OP)', transaction: 'txid_current()' };
  const { seq } = SHADOW_COLUMNS;
  return [
    createTable(place, { seq: 'CAST(0 AS bigint)', transaction: 'CAST(0 AS bigint)' }),
    `CREATE SEQUENCE ${sequence} OWNED BY ${shadow}.${seq}`,
    `CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $witness$
DECLARE v_seq bigint;
BEGIN
  IF TG_LEVEL = 'STATEMENT' THEN
    INSERT INTO ${shadow} (${ownColumns()}, ${names(place)})
    SELECT nextval('${sequence.replaceAll("'", "''")}'), 'delete', 'old', txid_current(), ${names(place, 't.')} FROM ${path} t;
    RETURN NULL;
  END IF;
  v_seq := nextval('${sequence.replaceAll("'", "''")}');
  IF TG_OP <> 'INSERT' THEN
    ${insertInto(place, 'old', own)}
  END IF;
  IF TG_OP <> 'DELETE' THEN
    ${insertInto(place, 'new', own)}
  END IF;
  RETURN NULL;
END $witness$`,
    `CREATE TRIGGER ${escape(`0_${table.shadow}`)} AFTER INSERT OR UPDATE OR DELETE ON ${path} FOR EACH ROW EXECUTE FUNCTION ${name}()`,
    `CREATE TRIGGER ${escape(`0_${table.shadow}_t`)} BEFORE TRUNCATE ON ${path} FOR EACH STATEMENT EXECUTE FUNCTION ${name}()`,
  ];
}

/**
 * `uuid_short()` gives the order, because its values increase on one server. An AUTO_INCREMENT would stay locked until the end of each
 * UPDATE and DELETE. Then tests would have deadlocks that do not occur in production.
 */
function mysqlCreation(place: Place): string[] {
  const { table, path } = place;
  const { seq, image, transaction } = SHADOW_COLUMNS;
  const trigger = (operation: Operation) => {
    const own = { seq: 'v_seq', op: `'${operation}'`, transaction: 'NULL' };
    const images = imagesOf(operation).map((one) => insertInto(place, one, own));
    return `CREATE TRIGGER ${place.inSchema(triggerName(table, operation))} AFTER ${operation.toUpperCase()} ON ${path} FOR EACH ROW BEGIN DECLARE v_seq BIGINT UNSIGNED DEFAULT uuid_short(); ${images.join(' ')} END`;
  };
  return [
    createTable(
      place,
      { seq: 'uuid_short()', transaction: 'uuid_short()' },
      `(${transaction} BIGINT UNSIGNED NULL, PRIMARY KEY (${seq}, ${image}))`,
    ),
    ...OPERATIONS.map(trigger),
  ];
}

/** SQLite has one writer at a time, so the next number is the largest number plus 1. */
function sqliteCreation(place: Place): string[] {
  const { table, path, shadow, escape } = place;
  const { seq } = SHADOW_COLUMNS;
  const last = `(SELECT coalesce(max(${seq}), 0) FROM ${shadow})`;
  const trigger = (operation: Operation) => {
    const images = imagesOf(operation).map((one, n) =>
      insertInto(place, one, { seq: n === 0 ? `${last} + 1` : last, op: `'${operation}'`, transaction: 'NULL' }),
    );
    return `CREATE TRIGGER ${escape(triggerName(table, operation))} AFTER ${operation.toUpperCase()} ON ${path} FOR EACH ROW BEGIN ${images.join(' ')} END`;
  };
  return [
    createTable(place, { seq: 'CAST(0 AS INTEGER)', transaction: 'CAST(0 AS INTEGER)' }),
    `CREATE INDEX ${escape(`${table.shadow}_i`)} ON ${shadow} (${seq})`,
    ...OPERATIONS.map(trigger),
  ];
}

function imagesOf(operation: Operation): readonly ('old' | 'new')[] {
  switch (operation) {
    case 'insert':
      return ['new'];
    case 'delete':
      return ['old'];
    case 'update':
      return ['old', 'new'];
  }
}
