// The dashboard imports this file, too. So it imports nothing.

/**
 * The operators of a condition.
 *
 * - `equals`, `in`, `ne`: two values are equal if they have the same type and exactly the same text. Case, accents and
 *   trailing spaces count. `null` also matches a missing property. Lists and objects equal nothing.
 * - `gt`, `gte`, `lt`, `lte`: compare numbers by value and texts by code point (so ISO dates by time). `null` and mixed
 *   types never match.
 * - `exists`: whether the value is present and not null.
 * - `changed`, `changedFrom`, `changedTo`: for updates. In an event without `previous`, no property counts as changed.
 */
export const OPERATORS = [
  'equals',
  'in',
  'ne',
  'gt',
  'gte',
  'lt',
  'lte',
  'exists',
  'changed',
  'changedFrom',
  'changedTo',
] as const;
export type Operator = (typeof OPERATORS)[number];

/** Maximum number of conditions of one filter. Each condition is evaluated for each candidate event. */
export const MAX_CONDITIONS = 20;
