import sql, { join, raw, type Sql } from 'sql-template-tag';
import type { DataSource, ObjectLiteral } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { chunks, inList } from '../../store/database/chunks.js';
import type { Database } from '../../store/database/database.js';
import type { StoredImage } from '../../store/outbox/images.js';
import { query, type Row, type Script } from '../../store/database/script.js';
import { mayLoseDigitsOnSqlite, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { hasOwnColumn, typingColumn, withPart } from '../../entities/foreign-keys.js';
import { keyOfImage, setForeignKeys } from '../images/image-select.js';
import { lastingExpression } from '../images/exact-expression.js';
import { mysqlColumn } from './mysql-triggers.js';
import { GONE_COLUMN, postgresColumns, type PostgresColumn } from './postgres-columns.js';
import { sqliteValue } from './sqlite-triggers.js';

/** The column values of one row of an image, as its JSON contains them. */
export type WrittenRow = Readonly<Record<string, unknown>>;

/** A parsed image, with the entity definition of its row. */
export interface ParsedImage {
  readonly stored: StoredImage;
  readonly definition: EntityDefinition;
  readonly old: WrittenRow | null;
  readonly now: WrittenRow | null;
}

/** Both rows of an image, in the form in which TypeORM would have loaded them. */
export interface ReadImage {
  readonly old: RowImage | null;
  readonly now: RowImage | null;
}

/** A value that a row needs: of a column of the entity, or of a foreign key that is a column of the table only. */
interface Wanted {
  readonly column: ColumnMetadata;
  readonly isNullable: boolean;
  /** Whether the exact form is needed, too, because the driver may change the value. */
  readonly needsExact: boolean;
}

/** The value of a column as the driver returns it. */
interface Read {
  readonly value: unknown;
  readonly exact?: unknown;
}

/**
 * Reads images as if they were rows of their tables. On PostgreSQL, MySQL and MariaDB the database converts the values back to the types of
 * the columns, so the driver returns the same values as for a row. On SQLite the text of a value shows its type.
 *
 * @returns a function that gives the rows of an image. It throws if the image lacks a column that the entity needs, and passes on errors
 * of a transformer.
 */
export function* readImageRows(
  database: Database,
  dataSource: DataSource,
  images: readonly ParsedImage[],
): Script<(image: ParsedImage) => ReadImage> {
  const byDefinition = new Map<EntityDefinition, ParsedImage[]>();
  for (const image of images) {
    const ofDefinition = byDefinition.get(image.definition);
    if (ofDefinition) ofDefinition.push(image);
    else byDefinition.set(image.definition, [image]);
  }
  const rowOf = new Map<ParsedImage, Row>();
  for (const [definition, ofDefinition] of byDefinition) {
    if (database.dialect === 'sqlite') continue;
    const columns = database.dialect === 'postgres' ? yield* postgresColumns(definition.metadata, dataSource) : null;
    for (const some of chunks(ofDefinition)) {
      const seqs = some.map(({ stored }) => stored.seq);
      const rows = yield* query(typedRows(database, dataSource, definition, { seqs, columns }));
      const bySeq = new Map(rows.map((row) => [String(row.seq), row]));
      for (const image of some) {
        const row = bySeq.get(String(image.stored.seq));
        if (row) rowOf.set(image, row);
      }
    }
  }
  return (image) => {
    const { definition, old, now } = image;
    const row = rowOf.get(image);
    const wanted = wantedOf(definition, dataSource);
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
      return rowImage(definition, dataSource, values);
    };
    return { old: read(old, 'o'), now: read(now, 'n') };
  };
}

/** Builds the same row image as for a row that was read from its table; see `plain-read.ts` and `row-reader.ts`. */
function rowImage(definition: EntityDefinition, dataSource: DataSource, values: ReadonlyMap<string, Read>): RowImage {
  const { metadata } = definition;
  const { driver } = dataSource;
  const entity = metadata.create(undefined, { fromDeserializer: true }) as ObjectLiteral;
  const exact = new Map<string, unknown>();
  const hydrated = (value: unknown, column: ColumnMetadata) =>
    (driver.prepareHydratedValue(value, column) as unknown) ?? null;
  for (const column of ownColumns(definition)) {
    const read = values.get(column.databaseName);
    if (!read) continue;
    column.setEntityValue(entity, hydrated(read.value, column));
    if (read.exact !== undefined) exact.set(column.propertyPath, hydrated(read.exact, column));
  }
  for (const { propertyPath, joinColumns } of foreignKeys(definition)) {
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

/** The columns of the payload and of the owner. The whole row if `when` or an `owner` function of the application sees it. */
function ownColumns({ metadata, options, columnsNeeded, hiddenColumnsNeeded }: EntityDefinition): ColumnMetadata[] {
  const isWhole = options.when !== undefined || typeof options.owner === 'function';
  const needed = new Set([...metadata.primaryColumns, ...columnsNeeded, ...hiddenColumnsNeeded]);
  return metadata.columns.filter(
    (column) => !column.isVirtual && !column.isVirtualProperty && (needed.has(column) || (isWhole && column.isSelect)),
  );
}

function foreignKeys({ metadata, relationsNeeded }: EntityDefinition): EntityDefinition['relationsNeeded'] {
  const ofKey = metadata.relations.filter(({ joinColumns }) => joinColumns.some(({ isPrimary }) => isPrimary));
  return [...new Set([...relationsNeeded, ...ofKey])].filter(hasOwnColumn);
}

/** A definition belongs to one data source. */
const wants = new WeakMap<EntityDefinition, readonly Wanted[]>();

function wantedOf(definition: EntityDefinition, dataSource: DataSource): readonly Wanted[] {
  let wanted = wants.get(definition);
  if (wanted) return wanted;
  const { driver, options } = dataSource;
  const unread = dialectOf(options.type) === 'postgres' ? driver.spatialTypes : [];
  const byName = new Map<string, Wanted>();
  const add = (column: ColumnMetadata, typed: ColumnMetadata) => {
    if (unread.includes(typed.type)) return;
    const isDay = lastingExpression(typed, '', dataSource) !== null;
    const needsExact = options.type === 'better-sqlite3' ? mayLoseDigitsOnSqlite(typed) : isDay;
    const { isNullable } = column;
    byName.set(column.databaseName, { column, isNullable, needsExact });
  };
  for (const column of ownColumns(definition)) add(column, column);
  for (const { joinColumns } of foreignKeys(definition)) {
    for (const joinColumn of joinColumns) add(joinColumn, typingColumn(joinColumn));
  }
  wanted = [...byName.values()];
  wants.set(definition, wanted);
  return wanted;
}

/**
 * The statement that reads images with typed columns. `o0`, `o1`, … are the columns of the old row and `n0`, `n1`, … those of the new row,
 * in the order of `wantedOf()`. `ox0` and `nx0` are their exact forms.
 */
function typedRows(
  database: Database,
  dataSource: DataSource,
  definition: EntityDefinition,
  { seqs, columns }: { seqs: readonly unknown[]; columns: ReadonlyMap<string, PostgresColumn> | null },
): Sql {
  const { images: i } = database.tables;
  const wanted = wantedOf(definition, dataSource);
  const typeOf = ({ column }: Wanted) =>
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

/** A row source with the columns `c0`, `c1`, …: the column list of the alias renames them by position. */
function fromRecord(row: Sql, alias: 'o' | 'n', columns: readonly (readonly [name: string, type: string])[]): Sql {
  const typed = columns.map(([name, type]) => `"${name.replaceAll('"', '""')}" ${type}`).join(', ');
  const names = columns.map((_, n) => `c${n}`).join(', ');
  return sql`lateral (select * from json_to_record(${row}::json) as r (${raw(typed)})) ${raw(`${alias} (${names})`)}`;
}
