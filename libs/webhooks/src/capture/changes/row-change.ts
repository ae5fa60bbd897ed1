import type { ObjectLiteral } from 'typeorm';
import type { Cause } from '../../cause.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { Json } from '../../json.js';

/** A row was written; its event is made when its image is known. */
export interface RowChange {
  readonly definition: EntityDefinition;
  readonly action: EntityAction;
  readonly id: ObjectLiteral;
  readonly key: string;
  readonly at: number;
  /** For updates, and what was updated before it was deleted: what was there before. */
  readonly before: Before | null;
  /** `null` until it is read; `gone` when the row was no longer there. */
  image: RowImage | 'gone' | null;
  /** What surrounded the write; noted when it is recorded. */
  cause?: Cause;
  /** Its rows are not known: thrown before the COMMIT. */
  readonly refusal?: Error;
}

/** What an update replaced. */
export interface Before {
  /** Old values of the fields that the writer changed, and of the automatic ones. */
  readonly values: ReadonlyMap<string, Json>;
  /** Paths of the fields that the writer changed. */
  readonly touched: ReadonlySet<string>;
  readonly owner: { audience: string; owner: string | null };
}
