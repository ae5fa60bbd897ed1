import type { Json, JsonObject } from '../json.js';
import type { Operator } from './operators.js';

/** The information that a filter needs about a property of the payload. */
export interface FieldInfo {
  /**
   * Whether the property is a number, or a number that is sent as text (bigint, decimal). Such a property is
   * compared by value, so `10` equals `'10.00'`.
   */
  readonly numeric: boolean;
  /** Whether the property is a scalar column. The value of a scalar column can route events to listeners. */
  readonly routable: boolean;
  /**
   * For a path inside a JSON column: the path of that column. If `column` is missing and the path is not routable, the
   * first property of the path counts as the column. Then `changed` is wrong only for a list inside an embedded
   * entity.
   */
  readonly column?: string;
}

/**
 * Looks up a path. Returns `undefined` for an unknown property and also for a hidden property, because a filter must not reveal that a
 * hidden property exists.
 */
export type FieldLookup = (path: string) => FieldInfo | undefined;

/** The properties that a filter may name. */
export interface FilterFields {
  readonly find: FieldLookup;
  /** The names that an error lists. The list does not include properties inside a JSON column. */
  readonly names: () => readonly string[];
}

/** One compiled condition. */
export interface Condition {
  /** The path in `data` (and in `previous`), with dots for nested properties. */
  readonly path: string;
  readonly operator: Operator;
  /** A list for `in`, a boolean for `exists` and `changed`, a scalar otherwise. */
  readonly value: Json;
  /** {@link FieldInfo.numeric} */
  readonly numeric: boolean;
  /** {@link FieldInfo.routable} */
  readonly routable: boolean;
  /** {@link FieldInfo.column} */
  readonly column?: string;
}

/** A compiled `where`. All conditions must hold. A filter is plain JSON, and listeners store their filter in this form. */
export type Filter = readonly Condition[];

/** The part of an event that a filter reads. */
export interface Filterable {
  readonly data: JsonObject;
  /** Old values of the changed properties. Only updates have old values. */
  readonly previous?: JsonObject;
  /**
   * Paths that were dropped because the payload was too large to store. A condition on a dropped path counts as
   * matching.
   */
  readonly dropped?: ReadonlySet<string>;
}
