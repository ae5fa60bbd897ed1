/**
 * Turns of owners in the queue of listeners, which is in the order of waiting: with hundreds of listeners that are ready an owner would
 * stand before all others in it. Whoever a claim served is left out of the next ones, until nobody else is found.
 */
export class OwnerTurns {
  private served: ReadonlySet<string> = new Set();

  /** Owners to leave out of the next claim. */
  get except(): readonly string[] {
    return [...this.served];
  }

  /**
   * After a claim that left out {@link except}.
   *
   * @param owners whose listeners it found something for
   * @param isExhaustive it looked at all listeners that were ready, but for those left out
   * @returns whether all that are ready were looked at
   */
  claimed(owners: Iterable<string | null>, isExhaustive: boolean): boolean {
    if (isExhaustive) {
      const hadAll = this.served.size === 0;
      this.served = new Set();
      return hadAll;
    }
    const found = [...owners].filter((owner) => owner !== null);
    this.served = new Set([...this.served, ...found]);
    return false;
  }
}
