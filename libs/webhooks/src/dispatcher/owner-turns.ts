/**
 * Lets owners take turns in the queue of listeners. The queue is sorted by waiting time. Without turns, an owner with hundreds of ready
 * listeners would come before all other owners. After a claim has taken deliveries of an owner, the next claims exclude this owner
 * until they find no other owner.
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
   * @param isExhaustive whether the claim read all ready listeners except the listeners of excluded owners
   * @returns whether all ready listeners were read
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
