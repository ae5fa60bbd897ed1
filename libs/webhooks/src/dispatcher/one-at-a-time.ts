/** Runs work one after the other. */
export class OneAtATime {
  private last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when all earlier work has ended, whatever its result was. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.last.then(work);
    this.last = result.catch(() => undefined);
    return result;
  }
}
