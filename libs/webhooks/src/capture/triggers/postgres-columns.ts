import sql from 'sql-template-tag';
import type { DataSource, EntityMetadata } from 'typeorm';
import { query, type Script } from '../../store/database/script.js';
import { escapedPath } from '../../dialect.js';

/** How a column is read out of an image as if it were read out of its table. */
export interface PostgresColumn {
  /** Its type in `json_to_record`. */
  readonly type: string;
  /** Of what `json_to_record` gives. */
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

/** What the image of a column that the table does not have any more is read as. */
export const GONE_COLUMN: PostgresColumn = { type: 'json', read: same };

/**
 * The columns of a table by the catalog, in the transaction that reads its images.
 *
 * Types come from the catalog and not from the name of the table: `line` is also a type of PostgreSQL, and a table that stands in no
 * schema of the `search_path` has none by its name alone. They are asked for each time, as a migration may change them.
 *
 * @throws Error where the table is not there
 */
export function* postgresColumns(
  { tablePath, name }: EntityMetadata,
  { driver }: DataSource,
): Script<ReadonlyMap<string, PostgresColumn>> {
  const table = escapedPath(tablePath, driver);
  // A domain is read as its base type: the value has passed its check, which may be another by now.
  const rows = yield* query<CatalogRow>(sql`with recursive typed (name, type) as (
  select a.attname, a.atttypid from pg_catalog.pg_attribute a where a.attrelid = to_regclass(${table}) and a.attnum > 0 and not a.attisdropped
  union all
  select typed.name, t.typbasetype from typed join pg_catalog.pg_type t on t.oid = typed.type where t.typtype = 'd'
)
select typed.name as "name", format_type(t.oid, -1) as "type", coalesce(e.typname, t.typname) as "base", e.oid is not null as "isArray", coalesce(e.typtype, t.typtype) = 'e' as "isEnum"
from typed join pg_catalog.pg_type t on t.oid = typed.type left join pg_catalog.pg_type e on e.oid = t.typelem and t.typcategory = 'A' where t.typtype <> 'd'`);
  if (!rows.length) {
    throw new Error(
      `the table ${tablePath} of ${name} is not there, or the search_path of the dispatcher's connection does not find it`,
    );
  }
  return new Map(rows.map((row) => [row.name, columnOf(row)]));
}

function columnOf({ type, base, isArray, isEnum }: CatalogRow): PostgresColumn {
  // As texts, so that a label that was renamed since does no harm. The driver gives a list of them as one text.
  if (isEnum) return isArray ? { type: 'text[]', read: (value) => `${value}::text` } : { type: 'text', read: same };
  if (base === 'hstore') return isArray ? { type: 'json', read: listOf(hstoreOf) } : { type: 'json', read: hstoreOf };
  if (base === 'money') {
    return isArray
      ? { type: 'json', read: (value) => `${listOf(moneyOfJson)(value)}::money[]` }
      : { type: 'text', read: moneyOf };
  }
  return { type, read: same };
}

/** `hstore` is the one type that a row writes as JSON of another form than the type reads. Its text needs nothing of the extension. */
function hstoreOf(value: string): string {
  const quoted = (part: string) => `'"' || replace(replace(${part}, '\\', '\\\\'), '"', '\\"') || '"'`;
  const pairs = `string_agg(${quoted('h.key')} || '=>' || coalesce(${quoted('h.value')}, 'NULL'), ', ' order by h.n)`;
  return `case when json_typeof(${value}) = 'object' then (select coalesce(${pairs}, '') from json_each_text(${value}) with ordinality h (key, value, n)) end`;
}

/**
 * The text of `money` has the signs of the writer's `lc_monetary`, and all digits of the amount: without the signs it is the number of
 * smallest units, which the reader's `lc_monetary` divides again.
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
