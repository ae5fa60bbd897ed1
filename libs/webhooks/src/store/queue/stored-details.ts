import type { AttemptPhases } from '../../sending/phases.js';

/** Names in lower case, and values. */
export type StoredHeaders = Readonly<Record<string, string>>;

/** The details of an attempt in the column `attempts.details`, as JSON. Secrets are masked. */
export interface StoredDetails {
  /** The URL of the listener at the time of the attempt. */
  readonly url: string;
  /** The headers of the request; `null` if it did not begin. */
  readonly request: StoredHeaders | null;
  /** The headers of the answer; `null` if no status arrived. */
  readonly response: StoredHeaders | null;
  readonly phases: AttemptPhases | null;
  /** The number of headers that had no room. */
  readonly omitted: number;
}

export function readDetails(stored: string | null): StoredDetails | null {
  return stored === null ? null : (JSON.parse(stored) as StoredDetails);
}
