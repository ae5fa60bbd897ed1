/** Maximum number of response bodies that are read at the same time. */
export interface BodyReadLimits {
  readonly concurrency: number;
  readonly concurrencyPerOwner: number;
}

/**
 * Counts response bodies that are still being read after the status has arrived. These reads use no slots. So a receiver that sends
 * its body slowly does not delay other receivers. When an owner has reached the limit, further bodies of that owner are not read.
 */
export class BodyReads {
  private readonly byOwner = new Map<string | null, number>();
  private total = 0;

  constructor(private readonly limits: BodyReadLimits) {}

  /**
   * @returns a function to call at the end of the body. `null` if the limit is reached: then the body must not be
   * read
   */
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
