import type { IndexCondition } from './table-names.js';

/** Rows in a state. */
export const inState =
  (state: string): IndexCondition =>
  (columnOf) =>
    `"${columnOf('state')}" = '${state}'`;

/** Rows with a value in a column. */
export const isSet =
  (property: string): IndexCondition =>
  (columnOf) =>
    `"${columnOf(property)}" is not null`;

/** Deliveries that later deliveries of the same row wait for. */
export const isUnfinishedAndOrdered: IndexCondition = (columnOf) =>
  `"${columnOf('orderKey')}" is not null and "${columnOf('state')}" in ('due', 'leased')`;
