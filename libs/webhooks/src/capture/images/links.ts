import type { DataSource, EntityMetadata, QueryRunner } from 'typeorm';
import { dialectOf, escapedPath } from '../../dialect.js';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, OutField, RowImage } from '../../entities/entity-definition.js';
import { withPart, referredPath } from '../../entities/foreign-keys.js';
import { keyValue } from './image-select.js';
import { JunctionColumns, referredType } from './junction-columns.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Row = Readonly<Record<string, unknown>>;

/** The text of an owning row's primary key, as `rowKey` gives that of an entity. */
export function ownerText(metadata: EntityMetadata, values: ReadonlyMap<string, unknown>): string {
  return JSON.stringify(metadata.primaryColumns.map((column) => keyText(values.get(column.propertyPath), column)));
}

/**
 * The ids of what rows are linked with, by the text of their primary keys, as they are now: on MySQL and MariaDB a plain read shows
 * them as they were when the transaction began. Not in any order.
 */
export async function readLinks(
  runner: QueryRunner,
  { metadata }: EntityDefinition,
  { relation }: OutField,
  images: readonly RowImage[],
): Promise<Map<string, unknown[]>> {
  const links = new Map<string, unknown[]>();
  const junction = relation?.junctionEntityMetadata;
  if (!junction || !images.length) return links;
  const dataSource = dataSourceOf(runner);
  const { driver } = dataSource;
  const isMysql = dialectOf(dataSource.options.type) === 'mysql';
  const owners = new JunctionColumns(junction.ownerColumns, 'wh_o', dataSource);
  const others = new JunctionColumns(junction.inverseColumns, 'wh_i', dataSource);

  const parameters: unknown[] = [];
  const tuples = images.map(({ entity, exact }) => {
    const marks = junction.ownerColumns.map((column) => {
      const value = keyValue(column.referencedColumn ?? column, entity, exact);
      parameters.push(driver.preparePersistentValue(value, referredType(column)));
      return driver.createParameter(`key${parameters.length - 1}`, parameters.length - 1);
    });
    return marks.join(', ');
  });
  const names = junction.ownerColumns.map(({ databaseName }) => driver.escape(databaseName));
  const table = escapedPath(junction.tablePath, driver);
  const isLocking = isMysql && runner.isTransactionActive;
  const text = `SELECT ${owners.list}, ${others.list} FROM ${table} WHERE ${isOneOf(names, tuples, dataSource)}${isLocking ? ' FOR UPDATE' : ''}`;
  for (const row of (await runner.query(text, parameters)) as Row[]) {
    const key = ownerText(metadata, owners.values(row));
    const id = idOf(junction.inverseColumns, others.values(row));
    const ids = links.get(key);
    if (ids) ids.push(id);
    else links.set(key, [id]);
  }
  return links;
}

/** One value, or the parts of it by the paths of their columns. */
function idOf(columns: readonly ColumnMetadata[], values: ReadonlyMap<string, unknown>): unknown {
  const [first, ...others] = columns;
  if (first && !others.length) return values.get(referredPath(first));
  return columns.reduce<unknown>((id, column) => withPart(id, column, values.get(referredPath(column))), {});
}

/** @param tuples the values of one key each, as a statement names them, separated by commas */
export function isOneOf(names: readonly string[], tuples: readonly string[], dataSource: DataSource): string {
  if (!tuples.length) return '1 = 0';
  if (names.length === 1) return `${names[0]} IN (${tuples.join(', ')})`;
  const rows = tuples.map((tuple) => `(${tuple})`).join(', ');
  return `(${names.join(', ')}) IN (${dialectOf(dataSource.options.type) === 'sqlite' ? 'VALUES ' : ''}${rows})`;
}
