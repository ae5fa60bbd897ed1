import { literal, hashIn, marked, type ImagesTable, type TriggerDialect, type TriggerObject } from './trigger-sql.js';
import type { TriggerTable } from './trigger-table.js';
import { escapedPath } from '../../dialect.js';

/**
 * All tables share one function, and each table has three triggers. An image is the whole row with its current columns. So after a change
 * of the table, writes still succeed and no new triggers are needed.
 *
 * The triggers run for each row, not for each statement. With row triggers, an update of 1,000 rows takes 3.4 times the time of the write
 * alone. A delete takes 16 times the time. With transition tables, the factors would be 2.6 and 10. But the triggers would add 43 us to an
 * update of one row, instead of 25 us. Transition tables have three more problems. First, transition tables hold old and new rows
 * separately. If a key was changed, only the position of the rows shows which old row belongs to which new row. Second, PostgreSQL plans a
 * join of the two transition tables once per session, at the first statement. PostgreSQL uses that plan also for a later statement with
 * 100,000 rows. Third, transition tables do not contain the rows of a write that names a partition.
 *
 * The function runs with the rights of the user who installed it, because a writer of the table may have no rights on the webhook tables.
 * So `EXECUTE` is revoked from PUBLIC: other users must not call the function from triggers on other tables. PostgreSQL checks this right
 * when a trigger is created. The function also sets its own `search_path`, and the settings of the session that change the text of a value.
 */
export const postgresTriggers: TriggerDialect = {
  objects: (tables, images) => [writeFunction(images), ...tables.flatMap((table) => triggersOn(table, images))],

  installed: (images) => ({
    text: `SELECT t.tgname AS name, n.nspname AS schema, c.relname AS relation, t.tgenabled AS enabled, obj_description(t.oid, 'pg_trigger') AS text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace WHERE p.proname = ${literal(functionName(images))} AND pn.nspname = ${literal(images.schema ?? '')} AND t.tgparentid = 0 UNION ALL SELECT p.proname, n.nspname, NULL, 'O', p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = ${literal(functionName(images))} AND n.nspname = ${literal(images.schema ?? '')}`,
    objectOf: (row: InstalledRow) => ({
      name: row.name,
      table: row.relation === null ? null : `${row.schema}.${row.relation}`,
      hash: row.text === null ? null : hashIn(row.text),
      isEnabled: row.enabled === 'O' || row.enabled === 'A',
      drop:
        row.relation === null
          ? `DROP FUNCTION ${escaped(row.schema)}.${escaped(row.name)}()`
          : `DROP TRIGGER ${escaped(row.name)} ON ${escaped(row.schema)}.${escaped(row.relation)}`,
    }),
  }),
};

interface InstalledRow {
  name: string;
  schema: string;
  relation: string | null;
  enabled: string;
  text: string | null;
}

function functionName(images: ImagesTable): string {
  return `${images.name}_write`;
}

function writeFunction(images: ImagesTable): TriggerObject {
  const { column: c } = images;
  const name = `${escaped(images.schema ?? 'public')}.${escaped(functionName(images))}`;
  const into = `INSERT INTO ${images.path} (${[c('tablePath'), c('op'), c('oldRow'), c('newRow'), c('context'), c('mergeKey'), c('createdAt')].join(', ')})`;
  // The key identifies the row and the transaction. If changes are merged, the names of the key columns are trigger arguments after the
  // path.
  const mergeKey = (path: string, row: string, keys: string) =>
    `txid_current() || ':' || encode(sha256(convert_to(${path} || (SELECT json_agg(${row} -> k ORDER BY n) FROM unnest(${keys}) WITH ORDINALITY AS keys (k, n))::text, 'UTF8')), 'hex')`;
  const { hash, text } = marked(`CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET extra_float_digits = 1
AS $webhooks$ {mark}
DECLARE
  v_context text := nullif(current_setting('webhooks.context', true), '');
  v_at bigint := date_part('epoch', clock_timestamp()) * 1000;
  v_old json;
  v_new json;
  v_merge text;
BEGIN
  IF current_setting('webhooks.skip', true) = 'on' THEN
    RETURN NULL;
  END IF;
  IF TG_LEVEL = 'ROW' THEN
    IF TG_OP <> 'INSERT' THEN
      v_old := row_to_json(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
      v_new := row_to_json(NEW);
    END IF;
    IF TG_NARGS > 1 THEN
      v_merge := ${mergeKey('TG_ARGV[0]', 'coalesce(v_new, v_old)', 'TG_ARGV[1:]')};
    END IF;
    ${into}
    VALUES (TG_ARGV[0], lower(TG_OP), v_old, v_new, v_context, v_merge, v_at);
  ELSE
    EXECUTE format(${literal(`${into.replaceAll('%', '%%')} SELECT $1, 'delete', row_to_json(t.*), NULL, $2, CASE WHEN $4 <> '{}' THEN ${mergeKey('$1', 'row_to_json(t.*)', '$4')} END, $3 FROM %I.%I AS t`)}, TG_TABLE_SCHEMA, TG_TABLE_NAME)
    USING TG_ARGV[0], v_context, v_at, TG_ARGV[1:];
  END IF;
  RETURN NULL;
END $webhooks$`);
  return {
    name: functionName(images),
    table: null,
    hash,
    create: [text, `REVOKE ALL ON FUNCTION ${name}() FROM PUBLIC`],
    drop: `DROP FUNCTION IF EXISTS ${name}()`,
  };
}

function triggersOn({ path, metadata, isMerged }: TriggerTable, images: ImagesTable): TriggerObject[] {
  const table = escapedPath(path, { escape: escaped });
  const keys = isMerged ? metadata.primaryColumns.map(({ databaseName }) => databaseName) : [];
  const run = `EXECUTE FUNCTION ${escaped(images.schema ?? 'public')}.${escaped(functionName(images))}(${[path, ...keys].map(literal).join(', ')})`;
  // PostgreSQL fires triggers in alphabetical order, so the name with `0_` makes this trigger run first. Changes by other triggers are then
  // captured after this change.
  const trigger = (operation: string, when: string): TriggerObject => {
    const name = `0_${images.name.slice(0, 48)}_${operation}`;
    const { hash, text } = marked(`{mark} CREATE TRIGGER ${escaped(name)} ${when} ${run}`);
    return {
      name,
      table: path,
      hash,
      // PostgreSQL drops comments from the definition of a trigger. So the hash is stored by COMMENT ON.
      create: [
        text,
        `COMMENT ON TRIGGER ${escaped(name)} ON ${table} IS ${literal(text.slice(0, text.indexOf(' CREATE')))}`,
      ],
      drop: `DROP TRIGGER IF EXISTS ${escaped(name)} ON ${table}`,
    };
  };
  return [
    trigger('change', `AFTER INSERT OR DELETE ON ${table} FOR EACH ROW`),
    // Compare bytes (`*<>`): values of some types (json) cannot be compared, and some types treat different values as equal.
    trigger('update', `AFTER UPDATE ON ${table} FOR EACH ROW WHEN (OLD.* OPERATOR(pg_catalog.*<>) NEW.*)`),
    trigger('truncate', `BEFORE TRUNCATE ON ${table} FOR EACH STATEMENT`),
  ];
}

function escaped(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
