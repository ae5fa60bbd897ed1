import type { Database } from '../../store/database/database.js';
import type { LoadedDataSource } from '../data-source/open-data-source.js';

/** What a check found. */
export interface Finding {
  readonly level: 'ok' | 'warn' | 'FAIL';
  readonly text: string;
  /** What to do; missing if all is well. */
  readonly fix?: string;
}

/** What the checks look at. The data source is connected. */
export interface Patient {
  readonly loaded: LoadedDataSource;
  readonly database: Database;
  /** For `--url` and `--secret`. */
  readonly receiver: { readonly url: string | undefined; readonly secret: string | undefined };
}

/** One thing that can be wrong. */
export interface Check {
  readonly name: string;
  /** Whether it reads the rows of the webhook tables, so that it needs all of them. */
  readonly needsTables?: boolean;
  /** @returns `null` if there is nothing to check here */
  run(patient: Patient): Promise<Finding | null>;
}

export function ok(text: string): Finding {
  return { level: 'ok', text };
}

export function warn(text: string, fix: string): Finding {
  return { level: 'warn', text, fix };
}

export function fail(text: string, fix: string): Finding {
  return { level: 'FAIL', text, fix };
}
