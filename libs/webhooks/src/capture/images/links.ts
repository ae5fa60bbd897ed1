import type { DataSource, EntityMetadata, QueryRunner } from 'typeorm';
import { dialectOf, escapedPath } from '../../dialect.js';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { OutField } from '../../entities/out-field.js';
import { withPart, referredPath } from '../../entities/foreign-keys.js';
import { keyValue } from '../plans/image-select.js';
import { JunctionColumns, referredType } from './junction-columns.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Row = Readonly<Record<string, unknown>>;

/** The text of the primary key of an owning row, in the form of `rowKey`. */
export function ownerText(metadata: EntityMetadata, values: ReadonlyMap<string, unknown>): string {
  return JSON.stringify(metadata.primaryColumns.map((column) => keyText(values.get(column.propertyPath), column)));
}

/**
 * Reads the current ids of the linked rows. The key of the result is the text of the primary key of the owning row. The ids have no order.
 * On MySQL and MariaDB the read locks, because a plain read would show the links as they were at the start of the transaction.
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

/**
 * The id of a linked row. A key of one column gives one value. A key of several columns gives an object with a value for each property
 * path.
 */
function idOf(columns: readonly ColumnMetadata[], values: ReadonlyMap<string, unknown>): unknown {
  const [first, ...others] = columns;
  if (first && !others.length) return values.get(referredPath(first));
  return columns.reduce<unknown>((id, column) => withPart(id, column, values.get(referredPath(column))), {});
}

/**
 * The SQL condition that matches rows by their keys.
 *
 * @param tuples one text for each key: the values of the key as SQL, separated by commas
 */
export function isOneOf(names: readonly string[], tuples: readonly string[], dataSource: DataSource): string {
  if (!tuples.length) return '1 = 0';
  if (names.length === 1) return `${names[0]} IN (${tuples.join(', ')})`;
  const rows = tuples.map((tuple) => `(${tuple})`).join(', ');
  return `(${names.join(', ')}) IN (${dialectOf(dataSource.options.type) === 'sqlite' ? 'VALUES ' : ''}${rows})`;
}
