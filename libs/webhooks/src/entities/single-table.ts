import type { EntityMetadata } from 'typeorm';

/** The root entity of the entities that share a table by inheritance. For an entity that shares no table: the entity itself. */
export function rootOf(metadata: EntityMetadata): EntityMetadata {
  // `parentEntityMetadata` is undefined outside single-table inheritance, although TypeORM's type says otherwise.
  return metadata.parentEntityMetadata ?? metadata;
}

/**
 * An entity, and the entities that extend this entity and share its table. An entity that extends another entity may also have a
 * separate table.
 */
export function kindsInTable(metadata: EntityMetadata): EntityMetadata[] {
  return [metadata, ...metadata.childEntityMetadatas.filter(({ tablePath }) => tablePath === metadata.tablePath)];
}
