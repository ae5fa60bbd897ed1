import type { DataSource, ObjectLiteral } from 'typeorm';
import { dialectOf, type DialectName } from '../../dialect.js';
import {
  isNumericColumn,
  mayLoseDigitsOnSqlite,
  valueKindOf,
  type ColumnMetadata,
} from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { isReadInexactly } from '../plans/exact-expression.js';

/** The values that an INSERT sends for one row, in the order of `columnsNeeded` and then `relationsNeeded` of the definition. */
export type InsertedValues = readonly unknown[];

/**
 * Whether the image of an inserted row can be made from the sent values, without reading the row. There are two cases in which the row must
 * be read. First, `when` or an `owner` function must see the stored row, and would otherwise see the object of the writer. Second, the
 * event contains links, and links are written after the row.
 */
export function canUseSentValues({ options, linkFields }: EntityDefinition): boolean {
  return (
    !linkFields.length && !options.readInserted && options.when === undefined && typeof options.owner !== 'function'
  );
}

export interface InsertedRow {
  readonly key: string;
  /** The values of the statement, completed by TypeORM. */
  readonly entity: ObjectLiteral;
  /** The values that the database filled in, as fetched by TypeORM. */
  readonly generated: ObjectLiteral;
}

/**
 * Copies the values that an INSERT will send. Must be called before the statement is sent, because TypeORM adds values to the same objects
 * afterwards.
 */
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

/** The value of a foreign key. The writer may give the related entity as an object or as an id. */
function foreignKeyOf(relation: EntityDefinition['relationsNeeded'][number], other: unknown): unknown {
  const [join] = relation.joinColumns;
  if (typeof other !== 'object' || other === null) return other;
  return join?.referencedColumn?.getEntityValue(other as ObjectLiteral);
}

/**
 * The image of an inserted row, without reading the row. Each value has one of two sources. Either the writer sent the value and the
 * database stores the value unchanged, or the database filled in the value and TypeORM fetched the value.
 *
 * @param sent the values of {@link insertedValues}, taken before the INSERT
 * @returns `null` if one value is in doubt, for example a default that TypeORM does not know, a rounded number or another spelling. Then
 * the row must be read.
 */
export function insertedImage(
  { definition, fetched }: EntityPlan,
  sent: InsertedValues,
  { key, entity, generated }: InsertedRow,
  dataSource: DataSource,
): RowImage | null {
  const dialect = dialectOf(dataSource.options.type);
  const { columnsNeeded, relationsNeeded } = definition;
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

/** `undefined` if TypeORM did not fetch the value, or may have fetched it inexactly. */
function fetchedValue(column: ColumnMetadata, generated: ObjectLiteral, dataSource: DataSource): unknown {
  const fetched: unknown = column.getEntityValue(generated);
  if (fetched === undefined || column.transformer || isReadInexactly(column, dataSource)) return undefined;
  // Some drivers return a value in the form of the application. Other drivers return a value in the form of the database. If the value is
  // an object, its form is unknown.
  if (typeof fetched === 'object' && fetched !== null && !(fetched instanceof Date)) return undefined;
  return dataSource.driver.prepareHydratedValue(fetched, column);
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
/**
 * Types that store a Date exactly to the millisecond. The other types of the databases are left out: `timestamp` of PostgreSQL depends on
 * the time zone of the process, and the types of MySQL round.
 */
const INSTANT_TYPES: Readonly<Record<DialectName, ReadonlySet<unknown>>> = {
  postgres: new Set(['timestamptz', 'timestamp with time zone']),
  sqlite: new Set(['datetime', Date]),
  mysql: new Set(),
};
/** The maximum number of characters for columns without a declared length. MySQL without strict mode cuts longer texts. */
const MYSQL_LENGTHS: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  [String, 255],
  ['varchar', 255],
  ['text', 16_383],
]);

/** Whether a read of the column would return exactly the sent value. `false` in case of doubt. */
function isStoredAsSent(value: unknown, column: ColumnMetadata, dialect: DialectName): boolean {
  if (value === null) return true;
  if (value === undefined || column.transformer || column.isArray || column.asExpression !== undefined) return false;
  const { type } = column;
  // The digits of `money` depend on the locale of the session.
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
      // MySQL compares enum values case-insensitively and stores the declared spelling.
      if (type === 'enum' || type === 'simple-enum') return dialect !== 'mysql';
      return TEXT_TYPES.has(type) && isStoredText(value, column, dialect);
  }
}

function isWhole(value: unknown): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value) && !Object.is(value, -0);
  return typeof value === 'bigint' || (typeof value === 'string' && WHOLE.test(value));
}

function isStoredDecimal(value: unknown, column: ColumnMetadata, dialect: DialectName): boolean {
  // If the column declares no scale, the number of stored digits depends on the database.
  if (column.scale === undefined || (dialect === 'sqlite' && mayLoseDigitsOnSqlite(column))) return false;
  const match = typeof value === 'string' ? DECIMAL.exec(value) : null;
  return match !== null && (match[1] ?? '').length <= column.scale;
}

function isStoredInstant(value: Date, { precision }: ColumnMetadata): boolean {
  const year = value.getUTCFullYear();
  return year >= 1 && year <= 9_999 && (precision ?? 6) >= 3;
}

/**
 * Whether the database stores a text unchanged. A text longer than the column may be cut: PostgreSQL cuts trailing spaces. A lone surrogate
 * is replaced.
 */
function isStoredText(value: string, { type, length }: ColumnMetadata, dialect: DialectName): boolean {
  const given = length ? Number(length) : Infinity;
  const limit = dialect === 'mysql' ? Math.min(given, MYSQL_LENGTHS.get(type) ?? Infinity) : given;
  return value.length <= limit && !/\p{Surrogate}/u.test(value);
}
