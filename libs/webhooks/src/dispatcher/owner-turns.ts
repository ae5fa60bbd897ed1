/**
 * Lets owners take turns in the queue of listeners. The queue is sorted by waiting time, so an owner with hundreds of
 * ready listeners would come before all others. An owner that a claim has served is excluded from the next claims,
 * until no other owner is found.
 */
export class OwnerTurns {
  private served: ReadonlySet<string> = new Set();

  /** Owners to exclude from the next claim. */
  get except(): readonly string[] {
    return [...this.served];
  }

  /**
   * Called after a claim that excluded {@link except}.
   *
   * @param owners owners of the listeners with claimed deliveries
   * @param isExhaustive the claim looked at all ready listeners, except the excluded ones
   * @returns whether all ready listeners were looked at
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
