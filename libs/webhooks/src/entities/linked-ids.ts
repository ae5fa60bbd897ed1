import type { Json } from '../json.js';
import { canonicalValue } from './canonical-value.js';
import { compositeKey } from './foreign-keys.js';
import type { OutField } from './out-field.js';

/**
 * @param value one id for each link: the value of the junction's column, or an object of key parts
 * @returns the sorted ids of the linked rows
 */
export function linkedIds({ relation, column, kind }: OutField, value: unknown): Json[] {
  const joinColumns = relation?.junctionEntityMetadata?.inverseColumns ?? [];
  const ids = (value as readonly unknown[] | undefined) ?? [];
  return ids
    .map((id) => (joinColumns.length > 1 ? compositeKey(joinColumns, id) : canonicalValue(id, kind, column)))
    .toSorted(byValue);
}

/** Sorts numbers by size, and all other values by text. So the order is the same on every database and with every collation. */
function byValue(a: Json, b: Json): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [x, y] = [a, b].map((id) => (typeof id === 'string' ? id : JSON.stringify(id))) as [string, string];
  return x < y ? -1 : x > y ? 1 : 0;
}
