/** What a simulation observes. */
export class Measurements {
  /** From the commit of an event to the begin of the first attempt of each delivery, in ms. */
  readonly delays: number[] = [];
  readonly batches = { route: 0, claim: 0, record: 0 };
  attempts = 0;
  /** Attempts of deliveries that had a row before the attempt. */
  storedAttempts = 0;
  succeeded = 0;
  failed = 0;
  exhausted = 0;
  /** When the last delivery succeeded. */
  lastSuccessAt = 0;
  /** Sum over all requests of the time for which they used a slot, in ms. */
  slotMs = 0;
}

/** The value that a share of the values does not exceed; 0 without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}
