import { chunks } from '../../store/database/chunks.js';
import { CONTEXT_MARK, SKIP_MARK, TRANSACTION_MARK } from '../../store/outbox/marks.js';
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

/** A function takes at most 127 arguments, and each pair needs two arguments. */
const PAIRS_PER_OBJECT = 60;

/**
 * Each table has three row triggers. A value is stored as an SQL literal (`quote()`), and a text is stored after one `'`. This form keeps
 * digits, bytes and types, independent of the declared type of the column. {@link sqliteValue} reads the stored value.
 */
export const sqliteTriggers: TriggerDialect = {
  objects: (tables, images) => tables.flatMap((table) => triggersOn(table, images)),

  installed: (images) => ({
    text: `SELECT name, tbl_name AS relation, sql AS text FROM sqlite_master WHERE type = 'trigger' AND instr(sql, 'nestjs-entity-webhooks') AND instr(sql, ${literal(`INSERT INTO ${images.path} `)})`,
    objectOf: (row: { name: string; relation: string; text: string }) => ({
      name: row.name,
      table: row.relation,
      hash: hashIn(row.text),
      isEnabled: true,
      drop: `DROP TRIGGER ${escaped(row.name)}`,
    }),
  }),
};

/**
 * A value of an image, in the form of better-sqlite3. An integer is also returned as digits, because a JavaScript number may lose some
 * digits.
 */
export function sqliteValue(written: string | null): { value: unknown; digits?: string } {
  if (written === null) return { value: null };
  if (written.startsWith("'")) return { value: written.slice(1) };
  if (/^X'/i.test(written)) return { value: Buffer.from(written.slice(2, -1), 'hex') };
  return /^-?\d+$/.test(written) ? { value: Number(written), digits: written } : { value: Number(written) };
}

function triggersOn(table: TriggerTable, images: ImagesTable): TriggerObject[] {
  const { column: c } = images;
  const columns = table.columns.map(({ databaseName }) => databaseName);
  const value = (alias: string) =>
    `CASE typeof(${alias}) WHEN 'null' THEN NULL WHEN 'text' THEN '''' || ${alias} ELSE quote(${alias}) END`;
  const image = (alias: 'OLD' | 'NEW') => {
    const pairs = columns.map((name) => `${literal(name)}, ${value(`${alias}.${escaped(name)}`)}`);
    const objects = [...chunks(pairs, PAIRS_PER_OBJECT)].map((some) => `json_object(${some.join(', ')})`);
    return objects.reduce((all, next) => `rtrim(${all}, '}') || ',' || ltrim(${next}, '{')`);
  };
  const mark = (seq: number, what: string) => `SELECT ${what} FROM ${images.path} WHERE ${c('seq')} = ${seq}`;
  const into = `INSERT INTO ${images.path} (${[c('tablePath'), c('op'), c('oldRow'), c('newRow'), c('context'), c('mergeKey'), c('createdAt')].join(', ')})`;
  const mergeKey = (alias: 'OLD' | 'NEW') => {
    if (!table.isMerged) return 'NULL';
    const keys = table.metadata.primaryColumns.map((one) => `quote(${alias}.${escaped(one.databaseName)})`);
    return `(${mark(TRANSACTION_MARK, c('context'))}) || ${[literal(`:${table.path}`), ...keys].join(" || ',' || ")}`;
  };
  const at = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
  const trigger = (op: string, changed: string, old: string, now: string): TriggerObject => {
    const name = objectName(images, op, table.path);
    const { hash, text } = marked(
      `CREATE TRIGGER ${escaped(name)} AFTER ${op.toUpperCase()} ON ${escaped(table.path)} FOR EACH ROW WHEN ${changed}NOT EXISTS (${mark(SKIP_MARK, '1')}) BEGIN {mark}\n${into} VALUES (${literal(table.path)}, '${op}', ${old}, ${now}, (${mark(CONTEXT_MARK, c('context'))}), ${mergeKey(op === 'delete' ? 'OLD' : 'NEW')}, ${at});\nEND`,
    );
    return { name, table: table.path, hash, create: [text], drop: `DROP TRIGGER IF EXISTS ${escaped(name)}` };
  };
  // Compare with a binary collation, because the collation of a column may treat 'a' and 'A' as equal.
  const differs = columns.map((name) => `OLD.${escaped(name)} COLLATE BINARY IS NOT NEW.${escaped(name)}`).join(' OR ');
  return [
    trigger('insert', '', 'NULL', image('NEW')),
    trigger('update', `(${differs}) AND `, image('OLD'), image('NEW')),
    trigger('delete', '', image('OLD'), 'NULL'),
  ];
}

function escaped(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
