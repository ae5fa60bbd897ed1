import { MINUTE } from './time.js';

/** Counts what may happen so often a minute, by name; in this process. */
export class PerMinute {
  private taken = new Map<string, number>();
  private windowEndsAt = -Infinity;

  /**
   * Counts one more under each of these names, or none under any.
   *
   * @param limits by name
   * @returns when the next minute begins, if it is one too many under some name; `null` when it was counted
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
