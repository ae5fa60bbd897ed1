import type { DataSource, ObjectLiteral } from 'typeorm';
import type { Json } from '../../json.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { OutField } from '../../entities/out-field.js';
import { isLoadedInexactly, lacksForeignKeys, rowKey } from './row-reader.js';
import type { Before } from '../changes/row-change.js';
import type { SavedRow } from '../typeorm/write-builder.js';

/** Whether the row that TypeORM loaded has these foreign keys and all values that an event needs. Used only with `exactPrevious: false`. */
export function isFullyLoaded(
  definition: EntityDefinition,
  { databaseEntity }: SavedRow,
  relations: EntityDefinition['relationsNeeded'],
  dataSource: DataSource,
): boolean {
  if (!databaseEntity || definition.hiddenColumnsNeeded.length || definition.linkFields.length) return false;
  return !isLoadedInexactly(definition, dataSource) && !lacksForeignKeys(relations, databaseEntity);
}

/** The image of the row that TypeORM loaded; `null` if the loaded row lacks values that an event needs. */
export function loadedImage(
  definition: EntityDefinition,
  row: SavedRow | undefined,
  relations: EntityDefinition['relationsNeeded'],
  dataSource: DataSource,
): RowImage | null {
  if (!row?.databaseEntity || !isFullyLoaded(definition, row, relations, dataSource)) return null;
  return { key: rowKey(definition, row.databaseEntity), entity: row.databaseEntity, exact: new Map() };
}

/** The foreign keys that the event of an update needs: the keys that decide the owner, and the changed keys. */
export function relationsOfUpdate(
  { ownerRelations, relationsNeeded }: EntityDefinition,
  isChanged: (relation: EntityDefinition['relationsNeeded'][number]) => boolean,
): EntityDefinition['relationsNeeded'] {
  return relationsNeeded.filter((relation) => ownerRelations.includes(relation) || isChanged(relation));
}

/**
 * The before image of an update. The image has only the columns that the update sets, because other columns of a loaded row may be out of
 * date.
 */
export function loadedBefore(definition: EntityDefinition, image: RowImage, set: ObjectLiteral): Before {
  const values = new Map<string, Json>();
  const touched = new Set<string>();
  for (const field of definition.fields) {
    const isSet = isSetBy(field, set, image);
    if (isSet && !field.automatic) touched.add(field.path);
    if (isSet || field.automatic) values.set(field.path, definition.valueOf(field, image));
  }
  return { values, touched, owner: definition.ownerOf(image) };
}

/**
 * Whether a statement sets a field. A statement on a row does not set the links of the row, so links count as set if their values were
 * read.
 */
function isSetBy({ relation, column, isLinks, path }: OutField, set: ObjectLiteral, { exact }: RowImage): boolean {
  if (isLinks) return exact.has(path);
  return (relation ? relation.getEntityValue(set) : column.getEntityValue(set)) !== undefined;
}
