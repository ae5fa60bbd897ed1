import type { ObjectLiteral } from 'typeorm';
import type { Cause } from '../../cause.js';
import type { RowImage } from '../../entities/entity-definition.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { Json } from '../../json.js';
import type { EntityPlan } from '../plans/entity-plan.js';

/** A row was written. Its event is made when its after image is known. */
export interface RowChange {
  /** The plan of the row's entity. */
  readonly plan: EntityPlan;
  readonly action: EntityAction;
  readonly id: ObjectLiteral;
  readonly key: string;
  readonly at: number;
  /** The before image. For an update, and for a row that the same transaction updated and then deleted. */
  readonly before: Before | null;
  /** The row no longer exists after the change. So `image` is the row as it was before. */
  readonly isRemoved: boolean;
  /** The after image. `null` until it is read, `'gone'` if the row no longer existed then. */
  image: RowImage | 'gone' | null;
  /** The context and depth of the write, set when the change is recorded. */
  cause?: Cause;
  /** Set if a statement has written rows that could not be read. It is thrown before the COMMIT. */
  readonly refusal?: Error;
}

/** The before image of an update, as far as its event needs it. */
export interface Before {
  /** Old values of the fields that the writer changed, and of automatic fields such as `updatedAt`. */
  readonly values: ReadonlyMap<string, Json>;
  /** Paths of the fields that the writer changed. */
  readonly touched: ReadonlySet<string>;
  readonly owner: { audience: string; owner: string | null };
}

/** The before image of a whole row. Every field counts as changed by the writer: whether its value differs, the after image shows. */
export function beforeImageOf({ definition, touchable }: EntityPlan, image: RowImage): Before {
  const values = new Map<string, Json>();
  for (const field of definition.fields) values.set(field.path, definition.valueOf(field, image));
  return { values, touched: touchable, owner: definition.ownerOf(image) };
}
