import type { CapturedWrite } from './captured-write.js';
import type { RowImage } from '../../entities/entity-definition.js';
import type { OutField } from '../../entities/out-field.js';
import { beforeImageOf, type Before, type RowChange } from '../changes/row-change.js';
import type { WriteExpression } from '../typeorm/write-builder.js';
import type { ReadRow } from '../images/written-table.js';
import type { EntityPlan } from '../plans/entity-plan.js';

/** A row that an insert or upsert has written. */
export interface InsertedRow {
  readonly now: ReadRow;
  /** The before image if an upsert has updated the row; `null` for a new row. */
  readonly old: ReadRow | null;
}

/** Whether the statement updates existing rows that conflict with its values. */
export function isUpsert({ builder, dialect }: CapturedWrite): boolean {
  const { onUpdate, onIgnore } = builder.expressionMap;
  if (!onUpdate || (onIgnore && dialect !== 'mysql')) return false;
  return overwrittenColumns(onUpdate).length > 0;
}

/** The columns that an upsert sets, by their names in the database. */
export function overwrittenColumns({
  overwrite,
  columns,
}: NonNullable<WriteExpression['onUpdate']>): readonly string[] {
  return overwrite ?? columns ?? [];
}

/** Whether an upsert sets the primary key of the rows that it updates. */
export function mayChangeKey({ builder, table }: CapturedWrite): boolean {
  const { onUpdate } = builder.expressionMap;
  const overwritten = onUpdate ? overwrittenColumns(onUpdate) : [];
  return table.metadata.primaryColumns.some(({ databaseName }) => overwritten.includes(databaseName));
}

/**
 * Records the rows that an insert has written, each row once. A row that an upsert has updated makes an update. Every other row makes a
 * creation.
 */
export async function recordInserted(write: CapturedWrite, rows: readonly InsertedRow[]): Promise<void> {
  const images = await wholeImages(write, rows);
  const changes = rows.flatMap(({ now: { plan, image }, old }): RowChange[] => {
    const whole = images.get(image.key);
    if (!whole || !plan.definition.needs(old ? 'updated' : 'created')) return [];
    if (!old) return [write.change('created', plan, null, whole)];
    return [write.change('updated', plan, notedBefore(plan, old.image), whole)];
  });
  await write.record(changes);
}

/**
 * On SQLite, MySQL and MariaDB one statement may write a row several times. These writes make one change, with the before image of the
 * first write and the after image of the last write.
 *
 * @param rows the writes of the statement, in their order
 */
export function lastOfEach(rows: readonly InsertedRow[]): InsertedRow[] {
  const byKey = new Map<string, InsertedRow>();
  for (const { now, old } of rows) {
    const earlier = old ? byKey.get(old.image.key) : undefined;
    if (old) byKey.delete(old.image.key);
    byKey.set(now.image.key, { now, old: earlier ? earlier.old : old });
  }
  return [...byKey.values()];
}

/** Returns whole images by key. If the statement could return only keys, this function reads the rows again. */
async function wholeImages(
  { table, runner }: CapturedWrite,
  rows: readonly InsertedRow[],
): Promise<Map<string, RowImage>> {
  const read = await table.complete(
    runner,
    rows.map(({ now }) => now),
  );
  return new Map(read.map(({ image }) => [image.key, image]));
}

/**
 * The before image of an upsert. The image has no virtual columns and no links, because a note does not contain them. An upsert does not
 * write links.
 */
function notedBefore(plan: EntityPlan, image: RowImage): Before {
  const before = beforeImageOf(plan, image);
  const isNoted = ({ isLinks, column }: OutField) => !isLinks && !column.isVirtualProperty;
  const noted = plan.definition.fields.filter(isNoted).map(({ path }) => path);
  return { ...before, values: new Map(noted.map((path) => [path, before.values.get(path) ?? null])) };
}
