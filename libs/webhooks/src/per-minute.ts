import { MINUTE } from './time.js';

/** Counts calls per minute, by name. Each process counts for itself. */
export class PerMinute {
  private taken = new Map<string, number>();
  private windowEndsAt = -Infinity;

  /**
   * Counts one call for each of these names. If one name has reached its limit, no name is counted.
   *
   * @param limits maximum number of calls per minute, by name
   * @returns `null` if the call was counted; otherwise the start of the next minute, in ms since 1970
   */
  take(limits: ReadonlyMap<string, number>, now: number): number | null {
    if (now >= this.windowEndsAt || now < this.windowEndsAt - MINUTE) {
      this.taken = new Map();
      this.windowEndsAt = now + MINUTE;
    }
    if ([...limits].some(([name, limit]) => (this.taken.get(name) ?? 0) >= limit)) return this.windowEndsAt;
    for (const name of limits.keys()) this.taken.set(name, (this.taken.get(name) ?? 0) + 1);
    return null;
  }
}
