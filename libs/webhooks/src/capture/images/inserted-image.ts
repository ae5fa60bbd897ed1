import type { DataSource, EntityMetadata, ObjectLiteral } from 'typeorm';
import { dialectOf, type DialectName } from '../../dialect.js';
import {
  isNumericColumn,
  mayLoseDigitsOnSqlite,
  valueKindOf,
  type ColumnMetadata,
} from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { isReadInexactly } from './exact-expression.js';

/** What an INSERT was sent for one row, in the order of its definition's `columnsNeeded` and `relationsNeeded`. */
export type InsertedValues = readonly unknown[];

/**
 * Whether the image of an inserted row may ever be told from what the writer sent: not when a function of the application is to see
 * the row, as it would see the writer's object instead, and not when links go out, which are written after it.
 */
export function canUseSentValues({ options, linkFields }: EntityDefinition): boolean {
  return (
    !linkFields.length && !options.readInserted && options.when === undefined && typeof options.owner !== 'function'
  );
}

/** A row that was inserted. */
export interface InsertedRow {
  readonly key: string;
  /** The values of the statement, as TypeORM has completed them. */
  readonly entity: ObjectLiteral;
  /** The values that the database filled in, as TypeORM has fetched them. */
  readonly generated: ObjectLiteral;
}

/** Taken before the statement is sent: TypeORM completes the same objects after it. */
export function insertedValues(
  { columnsNeeded, relationsNeeded }: EntityDefinition,
  entity: ObjectLiteral,
): InsertedValues {
  return [
    ...columnsNeeded.map((column): unknown => column.getEntityValue(entity)),
    ...relationsNeeded.map(
      (relation): unknown => foreignKeyOf(relation, relation.getEntityValue(entity)) ?? relation.getEntityValue(entity),
    ),
  ];
}

/** The id that a foreign key holds. */
function foreignKeyOf(relation: EntityDefinition['relationsNeeded'][number], other: unknown): unknown {
  const [join] = relation.joinColumns;
  if (typeof other !== 'object' || other === null) return other;
  return join?.referencedColumn?.getEntityValue(other as ObjectLiteral);
}

/**
 * The image of an inserted row, without reading it: each value that goes out either was sent, and is one that the column gives back
 * as it came, or was filled by the database and fetched by TypeORM.
 *
 * @param sent before the INSERT
 * @returns `null` where one value is in doubt: a default that TypeORM does not know, rounding, another spelling. Then the row is read.
 */
export function insertedImage(
  definition: EntityDefinition,
  sent: InsertedValues,
  { key, entity, generated }: InsertedRow,
  dataSource: DataSource,
): RowImage | null {
  const dialect = dialectOf(dataSource.options.type);
  const { metadata, columnsNeeded, relationsNeeded } = definition;
  const fetched = fetchedColumns(metadata);
  const exact = new Map<string, unknown>();
  for (const [n, column] of columnsNeeded.entries()) {
    let value = sent[n];
    if (value === undefined && fetched.has(column)) {
      value = fetchedValue(column, generated, dataSource);
      if (value === undefined) return null;
    } else if (!column.isInsert || !isStoredAsSent(value, column, dialect)) return null;
    exact.set(column.propertyPath, value);
  }
  for (const [n, relation] of relationsNeeded.entries()) {
    const value = foreignKeyOf(relation, sent[columnsNeeded.length + n]);
    const [join, ...others] = relation.joinColumns;
    if (others.length || !join?.referencedColumn || !isStoredAsSent(value, join.referencedColumn, dialect)) return null;
    exact.set(relation.propertyPath, value);
  }
  return { key, entity, exact };
}

/** `undefined` where TypeORM has not fetched it, or not as it stands in the row. */
function fetchedValue(column: ColumnMetadata, generated: ObjectLiteral, dataSource: DataSource): unknown {
  const fetched: unknown = column.getEntityValue(generated);
  if (fetched === undefined || column.transformer || isReadInexactly(column, dataSource)) return undefined;
  // Some drivers give it as the application has it, others as the database does: of an object nobody knows which.
  if (typeof fetched === 'object' && fetched !== null && !(fetched instanceof Date)) return undefined;
  return dataSource.driver.prepareHydratedValue(fetched, column);
}

const fetchedOf = new WeakMap<EntityMetadata, ReadonlySet<ColumnMetadata>>();

/** Columns that the database fills and TypeORM reads back. */
function fetchedColumns(metadata: EntityMetadata): ReadonlySet<ColumnMetadata> {
  let fetched = fetchedOf.get(metadata);
  if (!fetched) fetchedOf.set(metadata, (fetched = new Set(metadata.getInsertionReturningColumns())));
  return fetched;
}

const WHOLE = /^(?:0|-?[1-9]\d*)$/;
const DECIMAL = /^(?:0|-?[1-9]\d*|-?0(?=\.0*[1-9])|0(?=\.))(?:\.(\d+))?$/;
const INTEGER_TYPES: ReadonlySet<unknown> = new Set([
  Number,
  'int',
  'integer',
  'int2',
  'int4',
  'smallint',
  'tinyint',
  'mediumint',
]);
const TEXT_TYPES: ReadonlySet<unknown> = new Set([
  String,
  'varchar',
  'character varying',
  'text',
  'mediumtext',
  'longtext',
]);
const UUID = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/;
/** Types that keep a Date to the millisecond. PostgreSQL's `timestamp` depends on the process's zone, MySQL's types round. */
const INSTANT_TYPES: Readonly<Record<DialectName, ReadonlySet<unknown>>> = {
  postgres: new Set(['timestamptz', 'timestamp with time zone']),
  sqlite: new Set(['datetime', Date]),
  mysql: new Set(),
};
/** Where a column says no length, and a server in its lax mode would cut. */
const MYSQL_LENGTHS: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  [String, 255],
  ['varchar', 255],
  ['text', 16_383],
]);

/** Whether reading the column would give the same value, in the same words. In doubt, no. */
function isStoredAsSent(value: unknown, column: ColumnMetadata, dialect: DialectName): boolean {
  if (value === null) return true;
  if (value === undefined || column.transformer || column.isArray || column.asExpression !== undefined) return false;
  const { type } = column;
  // Its digits depend on the locale of the session.
  if (type === 'money') return false;
  switch (valueKindOf(column)) {
    case 'boolean':
      return typeof value === 'boolean';
    case 'bigint':
      return isWhole(value);
    case 'decimal':
      return isStoredDecimal(value, column, dialect);
    case 'date':
      return typeof value === 'string' && /^\d{4}-\d\d-\d\d$/.test(value);
    case 'time':
      return typeof value === 'string' && /^\d\d:\d\d:\d\d$/.test(value) && !column.precision;
    case 'instant':
      return value instanceof Date && INSTANT_TYPES[dialect].has(type) && isStoredInstant(value, column);
    case 'json':
    case 'bits':
    case 'zonedTime':
    case 'duration':
    case 'instantRange':
    case 'hstore':
    case 'point':
    case 'circle':
      return false;
    case 'any':
      if (INTEGER_TYPES.has(type)) return isNumericColumn(column) && Number.isSafeInteger(value);
      if (typeof value !== 'string') return false;
      if (type === 'uuid') return UUID.test(value);
      // MySQL finds the word of an enum in any case, and keeps it in its own.
      if (type === 'enum' || type === 'simple-enum') return dialect !== 'mysql';
      return TEXT_TYPES.has(type) && isStoredText(value, column, dialect);
  }
}

function isWhole(value: unknown): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value) && !Object.is(value, -0);
  return typeof value === 'bigint' || (typeof value === 'string' && WHOLE.test(value));
}

function isStoredDecimal(value: unknown, column: ColumnMetadata, dialect: DialectName): boolean {
  // Without a scale each database has another idea of the digits.
  if (column.scale === undefined || (dialect === 'sqlite' && mayLoseDigitsOnSqlite(column))) return false;
  const match = typeof value === 'string' ? DECIMAL.exec(value) : null;
  return match !== null && (match[1] ?? '').length <= column.scale;
}

function isStoredInstant(value: Date, { precision }: ColumnMetadata): boolean {
  const year = value.getUTCFullYear();
  return year >= 1 && year <= 9_999 && (precision ?? 6) >= 3;
}

/** Longer than the column it would be cut (spaces on PostgreSQL), and half a surrogate pair is replaced. */
function isStoredText(value: string, { type, length }: ColumnMetadata, dialect: DialectName): boolean {
  const given = length ? Number(length) : Infinity;
  const limit = dialect === 'mysql' ? Math.min(given, MYSQL_LENGTHS.get(type) ?? Infinity) : given;
  return value.length <= limit && !/\p{Surrogate}/u.test(value);
}
