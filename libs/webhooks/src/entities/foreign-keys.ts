import type { EntityMetadata, ObjectLiteral } from 'typeorm';
import type { Json, JsonObject } from '../json.js';
import { canonicalValue, valueKindOf, type ColumnMetadata } from './canonical-value.js';

type RelationMetadata = EntityMetadata['relations'][number];

/**
 * Whether the row holds a key of the relation that is no property of the entity, or not as a whole: one of its columns may be a property,
 * or belong to another relation as well. The keys of a `@JoinTable` stand in the junction.
 */
export function hasOwnColumn({ isManyToMany, joinColumns }: RelationMetadata): boolean {
  return !isManyToMany && joinColumns.some(({ isVirtual }) => isVirtual);
}

/** The relations whose key begins with a column, of those that are no property. */
export function relationsAt({ databaseName, entityMetadata }: ColumnMetadata): RelationMetadata[] {
  return entityMetadata.relations.filter(
    (relation) => hasOwnColumn(relation) && firstOwnColumn(relation)?.databaseName === databaseName,
  );
}

/** The first column of a relation's key that is no property of the entity. */
export function firstOwnColumn({ joinColumns }: RelationMetadata): ColumnMetadata | undefined {
  return joinColumns.find(({ isVirtual }) => isVirtual);
}

/** The column that says what type a part of a foreign key has, and that transforms it: the other entity's own. */
export function typingColumn(join: ColumnMetadata): ColumnMetadata {
  let column = join.referencedColumn ?? join;
  while (column.isVirtual && column.referencedColumn) column = column.referencedColumn;
  return column;
}

/** Where a part of a composite key stands in the other entity: the part may be one of a relation of its own. */
function pathOfPart({ referencedColumn }: ColumnMetadata): readonly string[] {
  if (!referencedColumn) return [];
  const { isVirtual, relationMetadata, propertyPath } = referencedColumn;
  if (!isVirtual || !relationMetadata) return propertyPath.split('.');
  const isComposite = relationMetadata.joinColumns.length > 1;
  return [...relationMetadata.propertyPath.split('.'), ...(isComposite ? pathOfPart(referencedColumn) : [])];
}

/** One part of a composite key, of an object that has the other entity's shape. */
export function partOf(key: unknown, join: ColumnMetadata): unknown {
  return pathOfPart(join).reduce<unknown>(
    (value, name) => (typeof value === 'object' ? (value as Record<string, unknown> | null)?.[name] : undefined),
    key,
  );
}

/** A composite key with one part more. */
export function withPart(key: unknown, join: ColumnMetadata, value: unknown): ObjectLiteral {
  const all = (key ?? {}) as ObjectLiteral;
  const path = [...pathOfPart(join)];
  const last = path.pop() ?? '';
  let here = all;
  for (const name of path) here = (here[name] ??= {}) as ObjectLiteral;
  here[last] = value;
  return all;
}

/** Whether a composite key points nowhere: it lacks a part. A tenant's column is set, whether the relation is or not. */
export function isUnset({ joinColumns }: RelationMetadata, key: unknown): boolean {
  return joinColumns.some((join) => (partOf(key, join) ?? null) === null);
}

/** Each part by the kind of its own column. */
export function compositeKey(joins: readonly ColumnMetadata[], key: unknown): JsonObject {
  return joins.reduce<JsonObject>((json, join) => {
    const column = typingColumn(join);
    return withPart(json, join, canonicalValue(partOf(key, join), valueKindOf(column), column)) as JsonObject;
  }, {});
}

/** What a payload holds for a relation of several columns. */
export function keyOfRelation(relation: RelationMetadata, key: unknown): Json {
  return isUnset(relation, key) ? null : compositeKey(relation.joinColumns, key);
}

/** The key that an entity holds for a relation: one value, or the parts of it. */
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

/** Not the column itself: each kind of a single table has its own. */
export function referredPath({ referencedColumn }: ColumnMetadata): string {
  return referencedColumn?.propertyPath ?? '';
}
