import type { DataSource } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import {
  hashIn,
  literal,
  marked,
  objectName,
  type ImagesTable,
  type TriggerDialect,
  type TriggerObject,
} from './trigger-sql.js';
import type { TriggerTable } from './trigger-table.js';
import { escapedPath } from '../../dialect.js';

/** The SQL that writes a column into an image, and the SQL that reads the column from the image as if from its table. */
export interface MysqlColumn {
  /** The SQL of the value in the trigger. */
  written: (value: string) => string;
  /** The type of the column in `json_table`. */
  type: string;
  /** The SQL that converts the value that `json_table` gives. */
  read: (value: string) => string;
}

const TEXT = 'longtext character set utf8mb4 collate utf8mb4_bin';
const same = (value: string) => value;
const asText = (value: string) => `CAST(${value} AS CHAR CHARACTER SET utf8mb4)`;

/** Types of numbers that JSON and a double-precision number store exactly. */
const SMALL_NUMBERS = new Set(['int', 'tinyint', 'smallint', 'mediumint', 'year', 'boolean', 'bool']);
const FLOATS = new Set(['float', 'double', 'double precision', 'real']);
const DECIMALS = new Set(['decimal', 'dec', 'fixed', 'numeric']);
const BYTES = new Set(['blob', 'tinyblob', 'mediumblob', 'longblob', 'binary', 'varbinary', 'bit']);

/** If JSON would change a value, the image stores the text that a `SELECT` would return for the value. */
export function mysqlColumn(column: ColumnMetadata, dataSource: DataSource): MysqlColumn {
  const type = dataSource.driver.normalizeType(column);
  const { precision, scale, unsigned } = column;
  // TypeORM selects spatial columns by the same expression.
  if (dataSource.driver.spatialTypes.includes(column.type)) {
    return { written: (value) => asText(`ST_AsText(${value})`), type: TEXT, read: same };
  }
  if (SMALL_NUMBERS.has(type)) return { written: same, type: 'double', read: same };
  if (FLOATS.has(type)) return { written: asText, type: 'double', read: same };
  if (DECIMALS.has(type)) return { written: asText, type: `decimal(${precision ?? 10}, ${scale ?? 0})`, read: same };
  if (BYTES.has(type)) {
    return { written: (value) => `HEX(CAST(${value} AS BINARY))`, type: TEXT, read: (value) => `unhex(${value})` };
  }
  switch (type) {
    case 'bigint':
      return { written: asText, type: unsigned ? 'bigint unsigned' : 'bigint', read: same };
    case 'date':
      return { written: asText, type: 'date', read: same };
    case 'datetime':
      return { written: asText, type: 'datetime(6)', read: same };
    case 'time':
      return { written: asText, type: `time(${precision ?? 0})`, read: same };
    case 'timestamp':
      // `timestamp` is the only type whose text depends on the time zone of the session.
      return {
        written: (value) => asText(`UNIX_TIMESTAMP(${value})`),
        type: 'decimal(20, 6)',
        read: (value) => `from_unixtime(${value})`,
      };
    default:
      return { written: asText, type: TEXT, read: same };
  }
}

/**
 * Each table has three row triggers. The triggers run with the rights of the user who installed them. Each trigger names the columns of the
 * entity. So after a column was dropped, every write fails until the triggers are installed again.
 */
export function mysqlTriggers(dataSource: DataSource): TriggerDialect {
  return {
    objects: (tables, images) => tables.flatMap((table) => triggersOn(table, images, dataSource)),

    installed: (images) => ({
      text: `SELECT trigger_schema AS trigger_schema, trigger_name AS name, event_object_table AS relation, action_statement AS text FROM information_schema.triggers WHERE trigger_schema IN (${schemasOf(dataSource)}) AND action_statement LIKE '%nestjs-entity-webhooks%' AND (trigger_schema = DATABASE() AND ${writesTo(images.path)} OR ${writesTo(qualified(images))})`,
      objectOf: (row: InstalledRow) => ({
        name: row.name,
        table: row.trigger_schema === images.schema ? row.relation : `${row.trigger_schema}.${row.relation}`,
        hash: hashIn(row.text),
        isEnabled: true,
        drop: `DROP TRIGGER ${escaped(row.trigger_schema)}.${escaped(row.name)}`,
      }),
    }),
  };
}

interface InstalledRow {
  trigger_schema: string;
  name: string;
  relation: string;
  text: string;
}

/** The databases of the entities (from `@Entity({ database })`), as SQL. */
function schemasOf({ entityMetadatas }: DataSource): string {
  const named = entityMetadatas.flatMap(({ tablePath }) => tablePath.split('.').slice(0, -1));
  return ['DATABASE()', ...[...new Set(named)].map(literal)].join(', ');
}

function writesTo(path: string): string {
  return `action_statement LIKE ${literal(`%INSERT INTO ${path.replaceAll(/[\\%_]/g, '\\$&')} %`)}`;
}

/** The path of the images table in the form that triggers in other databases need. */
function qualified({ schema, path }: ImagesTable): string {
  return schema === null ? path : `${escaped(schema)}.${path}`;
}

function triggersOn(table: TriggerTable, images: ImagesTable, dataSource: DataSource): TriggerObject[] {
  const { column: c } = images;
  const path = escapedPath(table.path, { escape: escaped });
  const [schema = null] = table.path.split('.').slice(0, -1);
  // A trigger in the same database does not name the database, so that a dump can be restored under another database name.
  const imagesPath = schema === null || schema === images.schema ? images.path : qualified(images);
  const image = (alias: 'OLD' | 'NEW') =>
    `JSON_OBJECT(${table.columns.map((column) => `${literal(column.databaseName)}, ${mysqlColumn(column, dataSource).written(`${alias}.${escaped(column.databaseName)}`)}`).join(', ')})`;
  const into = `INSERT INTO ${imagesPath} (${[c('tablePath'), c('op'), c('oldRow'), c('newRow'), c('context'), c('mergeKey'), c('createdAt')].join(', ')})`;
  const at = `TIMESTAMPDIFF(MICROSECOND, TIMESTAMP '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000`;
  // The key is NULL outside a transaction and for writes of other programs, because the server does not show the id of the transaction to a
  // trigger.
  const mergeKey = (alias: 'OLD' | 'NEW') => {
    if (!table.isMerged) return 'NULL';
    const keys = table.metadata.primaryColumns.map(
      (one) => `HEX(CAST(${alias}.${escaped(one.databaseName)} AS BINARY))`,
    );
    return `CONCAT(@webhooks_transaction, ':', SHA2(CONCAT_WS(',', ${[literal(table.path), ...keys].join(', ')}), 256))`;
  };
  const write = (op: string, old: string, now: string) =>
    `${into} VALUES (${literal(table.path)}, '${op}', ${old}, ${now}, @webhooks_context, ${mergeKey(op === 'delete' ? 'OLD' : 'NEW')}, ${at});`;
  const trigger = (operation: string, body: string): TriggerObject => {
    const name = objectName(images, operation, table.path);
    // A trigger must be in the database of its table.
    const triggerPath = schema === null ? escaped(name) : `${escaped(schema)}.${escaped(name)}`;
    const { hash, text } = marked(
      `CREATE TRIGGER ${triggerPath} AFTER ${operation.toUpperCase()} ON ${path} FOR EACH ROW BEGIN {mark}\n${body}\nEND`,
    );
    return { name, table: table.path, hash, create: [text], drop: `DROP TRIGGER IF EXISTS ${triggerPath}` };
  };
  const unlessSkipped = (statement: string) => `IF @webhooks_skip IS NULL THEN ${statement} END IF;`;
  return [
    trigger('insert', unlessSkipped(write('insert', 'NULL', image('NEW')))),
    // Compare the values as texts with a binary collation: the collation of a column may treat 'a' and 'A' as equal.
    trigger(
      'update',
      `DECLARE v_old ${TEXT} DEFAULT ${image('OLD')};
DECLARE v_new ${TEXT} DEFAULT ${image('NEW')};
IF @webhooks_skip IS NULL AND v_old <> v_new THEN ${write('update', 'v_old', 'v_new')} END IF;`,
    ),
    trigger('delete', unlessSkipped(write('delete', image('OLD'), 'NULL'))),
  ];
}

function escaped(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``;
}
