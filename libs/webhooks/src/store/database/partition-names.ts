import { DAY } from '../../time.js';

/** The partition for rows of a day that has no partition. */
export const DEFAULT_PARTITION = 'default';

/** The day of a time, in days (UTC) since 1970. @param at in ms since 1970 */
export function dayOf(at: number): number {
  return Math.floor(at / DAY);
}

/** `2026-12-01` */
export function dayText(day: number): string {
  return new Date(day * DAY).toISOString().slice(0, 10);
}

/** The longest name in PostgreSQL, in bytes. PostgreSQL would cut a longer name, and the partitions would have one name. */
const LONGEST_NAME = 63;

/** `webhook_events_p20261201`, or `webhook_events_default`. @param table its name without schema */
export function partitionName(table: string, day: number | typeof DEFAULT_PARTITION): string {
  const suffix = day === DEFAULT_PARTITION ? '_default' : `_p${dayText(day).replaceAll('-', '')}`;
  return table.slice(0, LONGEST_NAME - suffix.length) + suffix;
}
