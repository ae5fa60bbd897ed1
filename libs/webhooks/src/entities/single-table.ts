import type { EntityMetadata } from 'typeorm';

/** The root of the entities that share a table by inheritance. For any other entity: the entity itself. */
export function rootOf(metadata: EntityMetadata): EntityMetadata {
  // Undefined outside single-table inheritance, although TypeORM's type says otherwise.
  return metadata.parentEntityMetadata ?? metadata;
}

/** An entity, and the entities that extend it and share its table. An entity that extends another may also have a separate table. */
export function kindsInTable(metadata: EntityMetadata): EntityMetadata[] {
  return [metadata, ...metadata.childEntityMetadatas.filter(({ tablePath }) => tablePath === metadata.tablePath)];
}
