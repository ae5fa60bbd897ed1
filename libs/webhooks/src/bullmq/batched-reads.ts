/** Reads values by key. Keys that are asked for while a read is under way are read together by the next read. */
export class BatchedReads<K, V> {
  private readonly asked = new Map<K, ((value: Promise<V | undefined>) => void)[]>();
  private isReading = false;

  /** @param readAll reads the values of these keys */
  constructor(private readonly readAll: (keys: readonly K[]) => Promise<ReadonlyMap<K, V>>) {}

  /** @returns a value that was read after this call, or `undefined` if there is none. Rejects if the read fails */
  read(key: K): Promise<V | undefined> {
    return new Promise((resolve) => {
      const askers = this.asked.get(key);
      if (askers) askers.push(resolve);
      else this.asked.set(key, [resolve]);
      if (!this.isReading) void this.readOn();
    });
  }

  private async readOn(): Promise<void> {
    this.isReading = true;
    // Keys of the same turn of the event loop are read together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.asked.size) {
      const askers = new Map(this.asked);
      this.asked.clear();
      const values = this.readAll([...askers.keys()]);
      for (const [key, resolves] of askers) {
        for (const resolve of resolves) resolve(values.then((all) => all.get(key)));
      }
      await values.catch(() => undefined);
    }
    this.isReading = false;
  }
}
