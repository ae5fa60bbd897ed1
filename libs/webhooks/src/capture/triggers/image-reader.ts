import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DataSource, ObjectLiteral } from 'typeorm';
import { chunks, inList } from '../../store/database/chunks.js';
import type { Database } from '../../store/database/database.js';
import type { StoredImage } from '../../store/outbox/images.js';
import { query, type Row, type Script } from '../../store/database/script.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { RowImage } from '../../entities/entity-definition.js';
import { typingColumn, withPart } from '../../entities/foreign-keys.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { lastingExpression } from '../plans/exact-expression.js';
import { keyOfImage, setForeignKeys } from '../plans/image-select.js';
import type { TriggerValue } from '../plans/trigger-values.js';
import { mysqlColumn } from './mysql-triggers.js';
import { GONE_COLUMN, postgresColumns, type PostgresColumn } from './postgres-columns.js';
import { sqliteValue } from './sqlite-triggers.js';

/** The column values of one row of an image, in the form of the JSON of the image. */
export type WrittenRow = Readonly<Record<string, unknown>>;

/** A parsed image, with the plan of its row's entity. */
export interface ParsedImage {
  readonly stored: StoredImage;
  readonly plan: EntityPlan;
  readonly old: WrittenRow | null;
  readonly now: WrittenRow | null;
}

/** Both rows of an image, in the form in which TypeORM would have loaded them. */
export interface ReadImage {
  readonly old: RowImage | null;
  readonly now: RowImage | null;
}

/** The value of a column as the driver returns it. */
interface Read {
  readonly value: unknown;
  readonly exact?: unknown;
}

/**
 * Reads images as if they were rows of their tables. On PostgreSQL, MySQL and MariaDB the database converts the values back to the types of
 * the columns. So the driver returns the same values as for a row of the table. On SQLite the text of a value shows its type.
 *
 * @returns a function that gives the rows of an image. This function throws if the image lacks a column that the entity needs. The function
 * also passes on errors of a transformer.
 */
export function* readImageRows(
  database: Database,
  dataSource: DataSource,
  images: readonly ParsedImage[],
): Script<(image: ParsedImage) => ReadImage> {
  const byPlan = new Map<EntityPlan, ParsedImage[]>();
  for (const image of images) {
    const ofPlan = byPlan.get(image.plan);
    if (ofPlan) ofPlan.push(image);
    else byPlan.set(image.plan, [image]);
  }
  const rowOf = new Map<ParsedImage, Row>();
  for (const [plan, ofPlan] of byPlan) {
    if (database.dialect === 'sqlite') continue;
    const { metadata } = plan.definition;
    const columns = database.dialect === 'postgres' ? yield* postgresColumns(metadata, dataSource) : null;
    for (const some of chunks(ofPlan)) {
      const seqs = some.map(({ stored }) => stored.seq);
      const rows = yield* query(typedRows(database, dataSource, plan, { seqs, columns }));
      const bySeq = new Map(rows.map((row) => [String(row.seq), row]));
      for (const image of some) {
        const row = bySeq.get(String(image.stored.seq));
        if (row) rowOf.set(image, row);
      }
    }
  }
  return (image) => {
    const { plan, old, now } = image;
    const row = rowOf.get(image);
    const { definition, triggerValues: wanted } = plan;
    const read = (written: WrittenRow | null, alias: 'o' | 'n') => {
      if (!written) return null;
      for (const { column, isNullable } of wanted) {
        if (isNullable || column.databaseName in written) continue;
        throw new Error(
          `it has no column ${column.databaseName}, which ${definition.metadata.name} needs. The image was captured before the column was added or renamed`,
        );
      }
      const values = new Map<string, Read>();
      wanted.forEach(({ column, needsExact }, n) => {
        const { databaseName } = column;
        if (row) {
          const exact = needsExact ? { exact: row[`${alias}x${n}`] ?? null } : {};
          values.set(databaseName, { value: row[`${alias}${n}`] ?? null, ...exact });
          return;
        }
        const { value, digits } = sqliteValue((written[databaseName] as string | null | undefined) ?? null);
        values.set(databaseName, { value, ...(needsExact && digits !== undefined ? { exact: digits } : {}) });
      });
      return rowImage(plan, dataSource, values);
    };
    return { old: read(old, 'o'), now: read(now, 'n') };
  };
}

/** Builds the same row image as for a row that was read from its table. See `image-select.ts` and `row-reader.ts`. */
function rowImage(
  { definition, columns }: EntityPlan,
  dataSource: DataSource,
  values: ReadonlyMap<string, Read>,
): RowImage {
  const { metadata } = definition;
  const { driver } = dataSource;
  const entity = metadata.create(undefined, { fromDeserializer: true }) as ObjectLiteral;
  const exact = new Map<string, unknown>();
  const hydrated = (value: unknown, column: ColumnMetadata) =>
    (driver.prepareHydratedValue(value, column) as unknown) ?? null;
  for (const column of columns.columns) {
    const read = values.get(column.databaseName);
    if (!read) continue;
    column.setEntityValue(entity, hydrated(read.value, column));
    if (read.exact !== undefined) exact.set(column.propertyPath, hydrated(read.exact, column));
  }
  for (const { propertyPath, joinColumns } of columns.relations) {
    for (const joinColumn of joinColumns) {
      const typed = typingColumn(joinColumn);
      const read = values.get(joinColumn.databaseName);
      const value = hydrated(read?.exact ?? read?.value ?? null, typed);
      if (joinColumns.length === 1) exact.set(propertyPath, value);
      else exact.set(propertyPath, withPart(exact.get(propertyPath), joinColumn, value));
    }
  }
  setForeignKeys(definition, entity, exact);
  return { key: keyOfImage(definition, entity, exact), entity, exact };
}

/**
 * The statement that reads images with typed columns. `o0`, `o1`, … are the columns of the old row. `n0`, `n1`, … are the columns of the
 * new row. Both have the order of `triggerValues`. `ox0` and `nx0` are the exact forms of `o0` and `n0`.
 */
function typedRows(
  database: Database,
  dataSource: DataSource,
  { triggerValues: wanted }: EntityPlan,
  { seqs, columns }: { seqs: readonly unknown[]; columns: ReadonlyMap<string, PostgresColumn> | null },
): Sql {
  const { images: i } = database.tables;
  const typeOf = ({ column }: TriggerValue) =>
    columns ? (columns.get(column.databaseName) ?? GONE_COLUMN) : mysqlColumn(column, dataSource);
  const selected = (alias: 'o' | 'n') =>
    wanted.flatMap((one, n) => {
      const { column, needsExact } = one;
      const value = typeOf(one).read(`${alias}.c${n}`);
      const exact = needsExact ? lastingExpression(column.referencedColumn ?? column, value, dataSource) : null;
      return [`${value} as ${alias}${n}`, ...(exact === null ? [] : [`${exact} as ${alias}x${n}`])];
    });
  const list = raw(`, ${[...selected('o'), ...selected('n')].join(', ')}`);
  const source = (alias: 'o' | 'n', property: 'oldRow' | 'newRow') => {
    const row = sql`i.${i.$[property]}`;
    if (columns)
      return fromRecord(
        row,
        alias,
        wanted.map((one) => [one.column.databaseName, typeOf(one).type]),
      );
    const paths = wanted.map((one, n) => {
      const path = `$.${JSON.stringify(one.column.databaseName)}`.replaceAll("'", "''");
      return `c${n} ${typeOf(one).type} path '${path}' error on error`;
    });
    return sql`json_table(coalesce(${row}, '{}'), '$' columns (${raw(paths.join(', '))})) ${raw(alias)}`;
  };
  return sql`select i.${i.$.seq} as seq${list} from ${join([sql`${i.sql} i`, source('o', 'oldRow'), source('n', 'newRow')])} where i.${i.$.seq} ${inList(seqs)}`;
}

/** A row source with the columns `c0`, `c1`, …. The column list of the alias renames the columns by position. */
function fromRecord(row: Sql, alias: 'o' | 'n', columns: readonly (readonly [name: string, type: string])[]): Sql {
  const typed = columns.map(([name, type]) => `"${name.replaceAll('"', '""')}" ${type}`).join(', ');
  const names = columns.map((_, n) => `c${n}`).join(', ');
  return sql`lateral (select * from json_to_record(${row}::json) as r (${raw(typed)})) ${raw(`${alias} (${names})`)}`;
}
