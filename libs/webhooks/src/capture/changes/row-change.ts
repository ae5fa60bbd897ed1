import type { ObjectLiteral } from 'typeorm';
import type { Cause } from '../../cause.js';
import type { RowImage } from '../../entities/entity-definition.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { Json } from '../../json.js';
import type { EntityPlan } from '../plans/entity-plan.js';

/** A change of one row. The event of the change is made when the after image is known. */
export interface RowChange {
  /** The plan of the row's entity. */
  readonly plan: EntityPlan;
  readonly action: EntityAction;
  readonly id: ObjectLiteral;
  readonly key: string;
  readonly at: number;
  /** The before image. Set for an update, and for the deletion of a row that the same transaction has updated before. */
  readonly before: Before | null;
  /** The row no longer exists after the change. In this case `image` is the row before the change. */
  readonly isRemoved: boolean;
  /** The after image. `null` until the image is read; `'gone'` if the row no longer existed at the time of the read. */
  image: RowImage | 'gone' | null;
  /** The context and depth of the write, set when the change is recorded. */
  cause?: Cause;
  /** Set if a statement has written rows that could not be read. The COMMIT then fails with this error. */
  readonly refusal?: Error;
}

/** The before image of an update, with the values that its event needs. */
export interface Before {
  /** Old values of the fields that the writer changed, and of automatic fields such as `updatedAt`. */
  readonly values: ReadonlyMap<string, Json>;
  /** Paths of the fields that the writer changed. */
  readonly touched: ReadonlySet<string>;
  readonly owner: { audience: string; owner: string | null };
}

/** The before image of a whole row. Every field counts as changed by the writer. The after image shows whether its value differs. */
export function beforeImageOf({ definition, touchable }: EntityPlan, image: RowImage): Before {
  const values = new Map<string, Json>();
  for (const field of definition.fields) values.set(field.path, definition.valueOf(field, image));
  return { values, touched: touchable, owner: definition.ownerOf(image) };
}
