import type { DataSource, ObjectLiteral, QueryRunner } from 'typeorm';
import { keyText, valueKindOf, type ColumnMetadata } from './canonical-value.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';

/** One selected value: a column of the entity, or a value that hydration loses. */
interface Selected {
  readonly alias: string;
  readonly column: ColumnMetadata;
  /** Where it goes in {@link RowImage.exact}; `null` for the entity's own property. */
  readonly exactPath: string | null;
}

/** How the rows of one entity are read by their key. */
interface PlainRead {
  /** Up to the list of keys. */
  readonly text: string;
  readonly key: ColumnMetadata;
  readonly selected: readonly Selected[];
}

/** A definition belongs to one data source. */
const reads = new WeakMap<EntityDefinition, PlainRead | 'none'>();

/**
 * The statement that reads rows of an entity by their keys, made once: a query builder takes longer to write it than the database
 * takes to answer.
 *
 * @param exactOf how a value is selected so that the driver cannot spoil it; `null` where it does not
 * @returns `null` for entities that need the query builder: keys of several parts or with transformers, spatial and virtual columns
 */
export function plainRead(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): PlainRead | null {
  let read = reads.get(definition);
  if (read === undefined) reads.set(definition, (read = makePlainRead(definition, dataSource, exactOf) ?? 'none'));
  return read === 'none' ? null : read;
}

type ExactOf = (column: ColumnMetadata, value: string, dataSource: DataSource) => string | null;

export async function readPlainly(
  { text, key, selected }: PlainRead,
  runner: QueryRunner,
  { metadata }: EntityDefinition,
  { ids, isLocking }: { ids: readonly ObjectLiteral[]; isLocking: boolean },
): Promise<RowImage[]> {
  const { driver } = runner.dataSource;
  const list = ids.map((_, n) => driver.createParameter(`id${n}`, n)).join(', ');
  const values = ids.map((id): unknown => driver.preparePersistentValue(key.getEntityValue(id), key));
  const rows = (await runner.query(`${text} (${list})${isLocking ? ' FOR UPDATE' : ''}`, values)) as Record<
    string,
    unknown
  >[];
  return rows.map((row) => {
    const entity = metadata.create(runner, { fromDeserializer: true });
    const exact = new Map<string, unknown>();
    for (const { alias, column, exactPath } of selected) {
      const value: unknown = driver.prepareHydratedValue(row[alias] ?? null, column) ?? null;
      if (exactPath === null) column.setEntityValue(entity, value);
      else exact.set(exactPath, value);
    }
    const id: unknown = exact.get(key.propertyPath) ?? key.getEntityValue(entity);
    return { key: JSON.stringify([keyText(id, key)]), entity, exact };
  });
}

/** Keys whose value is a parameter as it is. */
const KEY_KINDS: ReadonlySet<string> = new Set(['any', 'bigint']);

function makePlainRead(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): PlainRead | null {
  const { metadata, options } = definition;
  const { driver } = dataSource;
  const [key, ...others] = metadata.primaryColumns;
  if (!key || others.length || key.isVirtual || key.transformer || !KEY_KINDS.has(valueKindOf(key))) return null;
  // A function of the application sees the whole row; otherwise only what goes out is read.
  const isWhole = options.when !== undefined || typeof options.owner === 'function';
  const needed = new Set<ColumnMetadata>([key, ...definition.columnsNeeded, ...definition.hiddenColumnsNeeded]);
  const columns = metadata.columns.filter(
    (column) => !column.isVirtual && (needed.has(column) || (isWhole && column.isSelect)),
  );
  if (columns.some((column) => column.isVirtualProperty || driver.spatialTypes.includes(column.type))) return null;
  const relations = (isWhole ? metadata.relations : definition.relationsNeeded).filter(
    ({ joinColumns }) => joinColumns[0]?.isVirtual,
  );
  if (relations.some(({ joinColumns }) => joinColumns.length > 1)) return null;

  const expressions: string[] = [];
  const selected: Selected[] = [];
  const select = (column: ColumnMetadata, exactPath: string | null, expression: string) => {
    const alias = `c${selected.length}`;
    selected.push({ alias, column, exactPath });
    expressions.push(`${expression} AS ${driver.escape(alias)}`);
  };
  const read = (column: ColumnMetadata) => `${driver.escape('e')}.${driver.escape(column.databaseName)}`;
  for (const column of columns) {
    select(column, null, read(column));
    const exact = exactOf(column, read(column), dataSource);
    if (exact !== null && needed.has(column)) select(column, column.propertyPath, exact);
  }
  // Hydration leaves a foreign key out.
  for (const { joinColumns, propertyPath } of relations) {
    for (const join of joinColumns) {
      const typed = join.referencedColumn ?? join;
      select(typed, propertyPath, exactOf(typed, read(join), dataSource) ?? read(join));
    }
  }
  const table = metadata.tablePath
    .split('.')
    .map((part) => driver.escape(part))
    .join('.');
  const text = `SELECT ${expressions.join(', ')} FROM ${table} ${driver.escape('e')} WHERE ${read(key)} IN`;
  return { text, key, selected };
}
