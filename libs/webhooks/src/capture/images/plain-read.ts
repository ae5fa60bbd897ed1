import type { DataSource, ObjectLiteral, QueryRunner } from 'typeorm';
import { valueKindOf, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { ImageSelect, type ExactOf } from './image-select.js';
import { dataSourceOf } from '../../typeorm-compat.js';
import { escapedPath } from '../../dialect.js';

/** The prepared statement text that reads rows of one entity by their keys. */
interface PlainRead {
  /** The statement up to the list of keys. */
  readonly text: string;
  /** The ORDER BY clause for reads that lock: rows are locked in the order of the primary key. */
  readonly order: string;
  readonly key: ColumnMetadata;
  readonly select: ImageSelect;
}

/** A definition belongs to one data source. */
const reads = new WeakMap<EntityDefinition, PlainRead | 'none'>();

const PREFIX = 'c';

/**
 * The statement that reads rows of an entity by their keys. It is composed once, because a query builder takes longer to compose it than
 * the database takes to answer.
 *
 * @param exactOf returns the SQL that selects a value without loss in the driver; `null` if the driver loses nothing
 * @returns `null` for entities that need the query builder: keys of several columns or with transformers, spatial or virtual columns, links
 */
export function plainRead(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): PlainRead | null {
  let read = reads.get(definition);
  if (read === undefined) reads.set(definition, (read = makePlainRead(definition, dataSource, exactOf) ?? 'none'));
  return read === 'none' ? null : read;
}

export async function readPlainly(
  { text, key, select }: PlainRead,
  runner: QueryRunner,
  { ids, lock }: { ids: readonly ObjectLiteral[]; lock: string },
): Promise<RowImage[]> {
  const { driver } = dataSourceOf(runner);
  const list = ids.map((_, n) => driver.createParameter(`id${n}`, n)).join(', ');
  const values = ids.map((id): unknown => driver.preparePersistentValue(key.getEntityValue(id), key));
  const rows = (await runner.query(`${text} (${list})${lock}`, values)) as Record<string, unknown>[];
  return rows.map((row) => select.image(runner, row, PREFIX));
}

/** Kinds of keys whose value can be sent as a parameter without conversion. */
const KEY_KINDS: ReadonlySet<string> = new Set(['any', 'bigint']);

function makePlainRead(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): PlainRead | null {
  const { metadata } = definition;
  const { driver } = dataSource;
  const [key, ...others] = metadata.primaryColumns;
  if (!key || others.length || key.isVirtual || key.transformer || !KEY_KINDS.has(valueKindOf(key))) return null;
  const select = ImageSelect.of(definition, dataSource, exactOf);
  if (!select.isWhole) return null;
  const alias = driver.escape('e');
  const table = escapedPath(metadata.tablePath, driver);
  const list = select.list(PREFIX, `${alias}.`);
  const name = `${alias}.${driver.escape(key.databaseName)}`;
  const text = `SELECT ${list} FROM ${table} ${alias} WHERE ${name} IN`;
  return { text, order: ` ORDER BY ${name}`, key, select };
}
