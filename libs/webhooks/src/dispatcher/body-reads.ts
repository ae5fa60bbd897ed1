/** How many answers are read at once. */
export interface BodyReadLimits {
  readonly concurrency: number;
  readonly concurrencyPerOwner: number;
}

/**
 * Answers whose status is known and whose body is still coming. They are read beside the slots, so that a receiver that drips its
 * body holds up nobody. An owner who has as many as it may gets no more of them read.
 */
export class BodyReads {
  private readonly byOwner = new Map<string | null, number>();
  private total = 0;

  constructor(private readonly limits: BodyReadLimits) {}

  /** @returns what to call at the end of the body; `null` when it is not to be read */
  begin(owner: string | null): (() => void) | null {
    const { concurrency, concurrencyPerOwner } = this.limits;
    const ofOwner = this.byOwner.get(owner) ?? 0;
    if (this.total >= concurrency || (owner !== null && ofOwner >= concurrencyPerOwner)) return null;
    this.total++;
    this.byOwner.set(owner, ofOwner + 1);
    let hasEnded = false;
    return () => {
      if (hasEnded) return;
      hasEnded = true;
      this.end(owner);
    };
  }

  private end(owner: string | null): void {
    this.total--;
    const left = (this.byOwner.get(owner) ?? 1) - 1;
    if (left) this.byOwner.set(owner, left);
    else this.byOwner.delete(owner);
  }
}
