import type { Filter, Filterable } from './filter.js';
import { matchesFilter } from './match-filter.js';

/** The conditions of a filter that do not hold for an event, such as `status.changedTo`; the path alone for `equals`. Empty: all hold. */
export function failedConditions(filter: Filter, event: Filterable): string[] {
  return filter
    .filter((condition) => !matchesFilter([condition], event))
    .map(({ path, operator }) => (operator === 'equals' ? path : `${path}.${operator}`));
}
