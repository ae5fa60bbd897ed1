import sql from 'sql-template-tag';
import type { DataSource, EntityMetadata } from 'typeorm';
import { query, type Script } from '../../store/database/script.js';
import { escapedPath } from '../../dialect.js';

/** The SQL that reads a column from an image as if from its table. */
export interface PostgresColumn {
  /** The type of the column in `json_to_record`. */
  readonly type: string;
  /** The SQL that converts the value that `json_to_record` gives. */
  readonly read: (value: string) => string;
}

interface CatalogRow {
  readonly name: string;
  readonly type: string;
  readonly base: string;
  readonly isArray: boolean;
  readonly isEnum: boolean;
}

const same = (value: string) => value;

/** Reads a column that the table no longer has. */
export const GONE_COLUMN: PostgresColumn = { type: 'json', read: same };

/**
 * The columns of a table from the catalog, read in the transaction that reads the images of the table.
 *
 * The types come from the catalog and not from the row type of the table, for two reasons. A table may have the name of a type, for example
 * `line`. And PostgreSQL does not find the row type of a table outside the `search_path`. The columns are read each time, because a
 * migration may change them.
 *
 * @throws Error if the table is not found
 */
export function* postgresColumns(
  { tablePath, name }: EntityMetadata,
  { driver }: DataSource,
): Script<ReadonlyMap<string, PostgresColumn>> {
  const table = escapedPath(tablePath, driver);
  // Read a domain as its base type. The value passed the check of the domain when the value was written, and the check may have changed
  // since.
  const rows = yield* query<CatalogRow>(sql`with recursive typed (name, type) as (
  select a.attname, a.atttypid from pg_catalog.pg_attribute a where a.attrelid = to_regclass(${table}) and a.attnum > 0 and not a.attisdropped
  union all
  select typed.name, t.typbasetype from typed join pg_catalog.pg_type t on t.oid = typed.type where t.typtype = 'd'
)
select typed.name as "name", format_type(t.oid, -1) as "type", coalesce(e.typname, t.typname) as "base", e.oid is not null as "isArray", coalesce(e.typtype, t.typtype) = 'e' as "isEnum"
from typed join pg_catalog.pg_type t on t.oid = typed.type left join pg_catalog.pg_type e on e.oid = t.typelem and t.typcategory = 'A' where t.typtype <> 'd'`);
  if (!rows.length) {
    throw new Error(
      `the table ${tablePath} of ${name} does not exist or is not in the search_path of the connection of the dispatcher`,
    );
  }
  return new Map(rows.map((row) => [row.name, columnOf(row)]));
}

function columnOf({ type, base, isArray, isEnum }: CatalogRow): PostgresColumn {
  // Read an enum as text. Otherwise a label that was renamed in the meantime would cause an error. The driver returns an array of an enum
  // as one text.
  if (isEnum) return isArray ? { type: 'text[]', read: (value) => `${value}::text` } : { type: 'text', read: same };
  if (base === 'hstore') return isArray ? { type: 'json', read: listOf(hstoreOf) } : { type: 'json', read: hstoreOf };
  if (base === 'money') {
    return isArray
      ? { type: 'json', read: (value) => `${listOf(moneyOfJson)(value)}::money[]` }
      : { type: 'text', read: moneyOf };
  }
  return { type, read: same };
}

/**
 * `hstore` is the only type whose JSON in a row differs from the input format of the type. The JSON is converted to the text of the type.
 * This conversion needs no function of the extension.
 */
function hstoreOf(value: string): string {
  const quoted = (part: string) => `'"' || replace(replace(${part}, '\\', '\\\\'), '"', '\\"') || '"'`;
  const pairs = `string_agg(${quoted('h.key')} || '=>' || coalesce(${quoted('h.value')}, 'NULL'), ', ' order by h.n)`;
  return `case when json_typeof(${value}) = 'object' then (select coalesce(${pairs}, '') from json_each_text(${value}) with ordinality h (key, value, n)) end`;
}

/**
 * The text of `money` has the currency signs and separators of the `lc_monetary` of the writer, and all digits of the amount. Without the
 * signs and separators, the digits are the amount in the smallest unit of the currency. This number is divided according to the
 * `lc_monetary` of the reader.
 */
function moneyOf(value: string): string {
  const units = `regexp_replace(${value}, '\\D', '', 'g')::numeric`;
  const sign = `case when ${value} ~ '[-(]' then -1 else 1 end`;
  return `(${sign} * ${units} / power(10::numeric, scale(1::money::numeric)))::money`;
}

const moneyOfJson = (value: string) => moneyOf(`(${value} #>> '{}')`);

function listOf(read: (value: string) => string): (value: string) => string {
  return (value) =>
    `case when json_typeof(${value}) = 'array' then array(select ${read('l.item')} from json_array_elements(${value}) with ordinality l (item, n) order by l.n) end`;
}
