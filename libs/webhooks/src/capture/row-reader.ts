import type { EntityTarget, ObjectLiteral, QueryRunner } from 'typeorm';
import type { DialectName } from '../store/column-kinds.js';
import { canonicalValue, valueKindOf } from './canonical-value.js';
import type { EntityDefinition, RowImage } from './entity-definition.js';

/** SQLite refuses deep OR chains, and PostgreSQL many parameters: rows are read in chunks. */
const ROWS_PER_SELECT = 500;

/** One row, by the text of its primary key. */
export function rowKey(definition: EntityDefinition, id: ObjectLiteral): string {
  return JSON.stringify(
    definition.metadata.primaryColumns.map((column) =>
      canonicalValue(column.getEntityValue(id), valueKindOf(column.referencedColumn ?? column)),
    ),
  );
}

/**
 * Reads rows as they are now, in the writer's own transaction: what it has written is locked by it, so no other writer's
 * half of the row can be missed or mixed in.
 *
 * @returns images by {@link rowKey}; a row that is gone has none
 */
export async function readRows(
  runner: QueryRunner,
  definition: EntityDefinition,
  ids: readonly ObjectLiteral[],
  dialect: DialectName,
): Promise<Map<string, RowImage>> {
  const images = new Map<string, RowImage>();
  for (let start = 0; start < ids.length; start += ROWS_PER_SELECT) {
    await readChunk(runner, definition, ids.slice(start, start + ROWS_PER_SELECT), dialect, images);
  }
  return images;
}

/** Whether hydration would lose a value that goes out: better-sqlite3 reads integers as JS numbers. */
export function losesPrecision(definition: EntityDefinition, dialect: DialectName): boolean {
  return dialect === 'sqlite' && definition.fields.some((field) => field.kind === 'bigint');
}

async function readChunk(
  runner: QueryRunner,
  definition: EntityDefinition,
  ids: readonly ObjectLiteral[],
  dialect: DialectName,
  images: Map<string, RowImage>,
): Promise<void> {
  const { metadata } = definition;
  const builder = runner.manager
    .createQueryBuilder(metadata.target as EntityTarget<ObjectLiteral>, 'e')
    .withDeleted()
    .callListeners(false)
    .whereInIds([...ids]);
  for (const column of definition.hiddenColumnsNeeded) builder.addSelect(`e.${column.propertyPath}`);

  const exact: { path: string; part: string | null; alias: string }[] = [];
  const select = (path: string, part: string | null, expression: string) => {
    const alias = `wh_exact_${exact.length}`;
    exact.push({ path, part, alias });
    builder.addSelect(expression, alias);
  };
  for (const relation of metadata.relations) {
    const [first, ...others] = relation.joinColumns;
    if (!first?.isVirtual) continue;
    // Hydration leaves a foreign key out unless the relation is joined.
    if (!others.length) select(relation.propertyPath, null, `(e.${relation.propertyPath})`);
    else {
      for (const { referencedColumn } of relation.joinColumns) {
        if (!referencedColumn) continue;
        const part = referencedColumn.propertyPath;
        select(relation.propertyPath, part, `(e.${relation.propertyPath}.${part})`);
      }
    }
  }
  if (dialect === 'sqlite') {
    for (const field of definition.fields) {
      if (field.kind === 'bigint' && !field.relation) select(field.path, null, `CAST(e.${field.path} AS TEXT)`);
    }
  }

  const { entities, raw } = await builder.getRawAndEntities<Record<string, unknown>>();
  entities.forEach((entity, index) => {
    const values = new Map<string, unknown>();
    for (const { path, part, alias } of exact) {
      const value = raw[index]?.[alias] ?? null;
      if (part === null) values.set(path, value);
      else values.set(path, { ...(values.get(path) as object | undefined), [part]: value });
    }
    images.set(keyOfImage(definition, entity, values), { entity, exact: values });
  });
}

function keyOfImage(definition: EntityDefinition, entity: ObjectLiteral, exact: ReadonlyMap<string, unknown>): string {
  return JSON.stringify(
    definition.metadata.primaryColumns.map((column) => {
      const value =
        exact.get(column.relationMetadata && column.isVirtual ? column.relationMetadata.propertyPath : column.propertyPath) ??
        column.getEntityValue(entity);
      return canonicalValue(value, valueKindOf(column.referencedColumn ?? column));
    }),
  );
}
