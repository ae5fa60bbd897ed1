import type { Attributes } from '@opentelemetry/api';

/** Maximum number of remembered sets of attributes. Only `attributes: { owner, listener }` can cause more sets. */
const REMEMBERED = 10_000;

/** Makes each set of attributes only once, because most measurements have one of a few sets. */
export class CachedAttributes {
  private readonly sets = new Map<string, Attributes>();

  /** @param common attributes that every set has */
  constructor(private readonly common: Attributes) {}

  /**
   * @param key distinguishes the set from all other sets of this cache
   * @param make the attributes; values that are `null` are left out
   */
  of(key: string, make: () => Readonly<Record<string, string | number | null>>): Attributes {
    const known = this.sets.get(key);
    if (known) return known;
    if (this.sets.size >= REMEMBERED) this.sets.clear();
    const set: Attributes = { ...this.common };
    for (const [name, value] of Object.entries(make())) if (value !== null) set[name] = value;
    this.sets.set(key, set);
    return set;
  }
}
