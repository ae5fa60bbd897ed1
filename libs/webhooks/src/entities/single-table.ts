import type { EntityMetadata } from 'typeorm';

/** The entity whose table it is, of those that share one by inheritance; any other entity's own. */
export function rootOf(metadata: EntityMetadata): EntityMetadata {
  // oxlint-disable-next-line typescript/no-unnecessary-condition -- undefined outside single tables, whatever the type says
  return metadata.parentEntityMetadata ?? metadata;
}

/** An entity, and those that extend it and stand in its table: classes that extend another may have tables of their own. */
export function kindsInTable(metadata: EntityMetadata): EntityMetadata[] {
  return [metadata, ...metadata.childEntityMetadatas.filter(({ tablePath }) => tablePath === metadata.tablePath)];
}
