import type { Database } from '../../store/database/database.js';
import type { LoadedDataSource } from '../data-source/open-data-source.js';

/** The result of a check. */
export interface Finding {
  readonly level: 'ok' | 'warn' | 'FAIL';
  readonly text: string;
  /** What to do about the problem; missing if there is none. */
  readonly fix?: string;
}

/** The input of the checks, with a connected data source. */
export interface Patient {
  readonly loaded: LoadedDataSource;
  readonly database: Database;
  /** For `--url` and `--secret`. */
  readonly receiver: { readonly url: string | undefined; readonly secret: string | undefined };
}

/** One thing that can be wrong. */
export interface Check {
  readonly name: string;
  /** Whether the check reads rows of the webhook tables, so it runs only if all tables exist. */
  readonly needsTables?: boolean;
  /** @returns `null` if the check does not apply to this database or these options */
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
