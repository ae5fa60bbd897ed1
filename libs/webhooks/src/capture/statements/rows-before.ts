import type { ObjectLiteral } from 'typeorm';
import type { Json } from '../../json.js';
import type { CapturedWrite } from './captured-write.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { idOfImage } from '../plans/image-select.js';
import { rowKey } from '../images/row-reader.js';
import type { Before, RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { ReadRow } from '../images/written-table.js';
import { keyCondition, readAffected, readRowsOf, restrictTo } from './read-affected.js';

/**
 * Reads and locks rows by their keys. Must be called before a statement on a junction changes the links of these rows.
 *
 * @param keys the keys as parameters, in the order of the primary columns. One statement must have room for all keys
 */
export async function noteRows(write: CapturedWrite, keys: readonly (readonly unknown[])[]): Promise<NotedRow[]> {
  restrictTo(write, ` WHERE ${keyCondition(write, keys)}`);
  const rows = await readAffected(write, { isDelete: false, limit: keys.length, after: [] });
  return (await write.table.complete(write.runner, readRowsOf(rows))).map(noteOf);
}

/** The part of a row that is kept in memory until its statement has run. */
export interface NotedRow {
  readonly plan: EntityPlan;
  readonly id: ObjectLiteral;
  /** JSON of the old field values and the owner. */
  readonly before: string;
}

export function noteOf({ plan, image }: ReadRow): NotedRow {
  const { definition } = plan;
  const values = definition.fields.map((field) => definition.valueOf(field, image));
  return { plan, id: idOfImage(definition, image), before: JSON.stringify([values, definition.ownerOf(image)]) };
}

function beforeOfNote({ plan: { definition, touchable }, before }: NotedRow): Before {
  const [values, owner] = JSON.parse(before) as [Json[], Before['owner']];
  return {
    values: new Map(definition.fields.map((field, n) => [field.path, values[n] ?? null])),
    touched: touchable,
    owner,
  };
}

/** The changes of written rows. Reads the after images. */
export async function changesOf(
  write: CapturedWrite,
  action: EntityAction,
  rows: readonly NotedRow[],
): Promise<RowChange[]> {
  const changes: RowChange[] = [];
  for (const plan of write.table.plans) {
    const own = rows.filter((row) => row.plan === plan);
    if (!own.length) continue;
    const ids = own.map(({ id }) => idAfter(write, plan.definition, id));
    const images = await write.table.imagesNow(write.runner, plan, ids);
    own.forEach((row, n) => {
      const image = images.get(rowKey(plan.definition, ids[n] as ObjectLiteral));
      if (image) changes.push(write.change(action, plan, action === 'updated' ? beforeOfNote(row) : null, image));
    });
  }
  return changes;
}

/** The primary key of a row after an update. The update may set a new key. */
function idAfter({ builder, table }: CapturedWrite, definition: EntityDefinition, id: ObjectLiteral): ObjectLiteral {
  const { queryType, valuesSet } = builder.expressionMap;
  if (queryType !== 'update' || !valuesSet) return id;
  let moved = id;
  for (const column of table.metadata.primaryColumns) {
    const value: unknown = column.getEntityValue(valuesSet);
    if (value === undefined || !column.isUpdate) continue;
    if (moved === id) moved = definition.metadata.getEntityIdMap(id) ?? { ...id };
    column.setEntityValue(moved, value);
  }
  return moved;
}
