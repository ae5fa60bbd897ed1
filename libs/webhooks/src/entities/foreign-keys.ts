import type { EntityMetadata, ObjectLiteral } from 'typeorm';
import type { Json, JsonObject } from '../json.js';
import { canonicalValue, valueKindOf, type ColumnMetadata } from './canonical-value.js';

type RelationMetadata = EntityMetadata['relations'][number];

/**
 * Whether at least one column of the relation's foreign key is no property of the entity. The other columns of the key may be properties
 * of the entity, or may belong to another relation. The keys of a `@JoinTable` are in the junction table, not in the row.
 */
export function hasOwnColumn({ isManyToMany, joinColumns }: RelationMetadata): boolean {
  return !isManyToMany && joinColumns.some(({ isVirtual }) => isVirtual);
}

/** The relations for which this column is the {@link firstOwnColumn} of the foreign key. */
export function relationsAt({ databaseName, entityMetadata }: ColumnMetadata): RelationMetadata[] {
  return entityMetadata.relations.filter(
    (relation) => hasOwnColumn(relation) && firstOwnColumn(relation)?.databaseName === databaseName,
  );
}

/** The first column of a relation's foreign key that is no property of the entity. */
export function firstOwnColumn({ joinColumns }: RelationMetadata): ColumnMetadata | undefined {
  return joinColumns.find(({ isVirtual }) => isVirtual);
}

/**
 * The column that defines the type and the transformer of a part of a foreign key. This is the referenced column. If the referenced
 * column is itself part of a foreign key, the function follows that reference, too.
 */
export function typingColumn(join: ColumnMetadata): ColumnMetadata {
  let column = join.referencedColumn ?? join;
  while (column.isVirtual && column.referencedColumn) column = column.referencedColumn;
  return column;
}

/** The property path of a key part in the other entity. In the other entity, the key part may also belong to a relation. */
function pathOfPart({ referencedColumn }: ColumnMetadata): readonly string[] {
  if (!referencedColumn) return [];
  const { isVirtual, relationMetadata, propertyPath } = referencedColumn;
  if (!isVirtual || !relationMetadata) return propertyPath.split('.');
  const isComposite = relationMetadata.joinColumns.length > 1;
  return [...relationMetadata.propertyPath.split('.'), ...(isComposite ? pathOfPart(referencedColumn) : [])];
}

/** One part of a composite key. @param key an object in the shape of the other entity */
export function partOf(key: unknown, join: ColumnMetadata): unknown {
  return pathOfPart(join).reduce<unknown>(
    (value, name) => (typeof value === 'object' ? (value as Record<string, unknown> | null)?.[name] : undefined),
    key,
  );
}

/** Adds one part to a composite key, in place, and returns the key. */
export function withPart(key: unknown, join: ColumnMetadata, value: unknown): ObjectLiteral {
  const all = (key ?? {}) as ObjectLiteral;
  const path = [...pathOfPart(join)];
  const last = path.pop() ?? '';
  let here = all;
  for (const name of path) here = (here[name] ??= {}) as ObjectLiteral;
  here[last] = value;
  return all;
}

/**
 * Whether a composite key refers to no row because a part is missing. Other parts of such a key, for example a tenant id,
 * may be set.
 */
export function isUnset({ joinColumns }: RelationMetadata, key: unknown): boolean {
  return joinColumns.some((join) => (partOf(key, join) ?? null) === null);
}

/** A composite key as JSON: each part is written by the kind of its column. */
export function compositeKey(joins: readonly ColumnMetadata[], key: unknown): JsonObject {
  return joins.reduce<JsonObject>((json, join) => {
    const column = typingColumn(join);
    return withPart(json, join, canonicalValue(partOf(key, join), valueKindOf(column), column)) as JsonObject;
  }, {});
}

/** The payload value of a relation with several columns. */
export function keyOfRelation(relation: RelationMetadata, key: unknown): Json {
  return isUnset(relation, key) ? null : compositeKey(relation.joinColumns, key);
}

/** The foreign key of a relation in an entity object: one value, or an object of the key parts. */
export function foreignKeyOf(relation: RelationMetadata, entity: ObjectLiteral): unknown {
  const value = relation.getEntityValue(entity) as unknown;
  if (value === null || value === undefined || typeof value !== 'object' || value instanceof Date) return value;
  const [join, ...others] = relation.joinColumns;
  if (!others.length) return join?.referencedColumn?.getEntityValue(value as ObjectLiteral);
  return relation.joinColumns.reduce<ObjectLiteral>(
    (key, part) => withPart(key, part, part.referencedColumn?.getEntityValue(value as ObjectLiteral)),
    {},
  );
}

/** The property path of the referenced column. Compare paths, not columns: each entity of a single table has separate column objects. */
export function referredPath({ referencedColumn }: ColumnMetadata): string {
  return referencedColumn?.propertyPath ?? '';
}
