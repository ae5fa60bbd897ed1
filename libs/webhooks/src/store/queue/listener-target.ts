import { readSecrets, type StoredSecret } from '../../secrets/stored-secrets.js';

/** The properties of a listener that sending needs. */
export interface ListenerTarget {
  readonly id: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The secrets in stored form. The secrets are sealed if the application has keys for sealing. */
  readonly secrets: readonly StoredSecret[];
  readonly schemes: readonly string[];
  /** The credentials that the receiver's server requires in addition to signatures, in stored form. See `listener-auth.ts`. */
  readonly auth: string | null;
  /** The client certificate and the certificate authorities of the listener, in stored form. See `listener-tls.ts`. */
  readonly tls: string | null;
  readonly format: string;
  /** The pinned versions, in stored form. See `payload-pins.ts`. */
  readonly versions: string | null;
  readonly handshake: string;
  /** Whether requests include the event's sequence. */
  readonly sendsSequence: boolean;
  /** Whether the listener's last attempt had failed when this row was read. Then the next success changes the health of the listener. */
  readonly isFailing: boolean;
}

/** The columns of a {@link ListenerTarget}. */
export const TARGET_COLUMNS = [
  'id',
  'url',
  'headers',
  'secrets',
  'schemes',
  'auth',
  'tls',
  'format',
  'versions',
  'handshake',
  'sequence',
] as const;
export type TargetRow = Record<
  Exclude<(typeof TARGET_COLUMNS)[number], 'sequence' | 'auth' | 'tls' | 'versions'>,
  string
> & {
  versions: string | null;
  auth: string | null;
  tls: string | null;
  sequence: unknown;
};

export function toTarget(row: TargetRow, isFailing: boolean): ListenerTarget {
  return {
    id: row.id,
    url: row.url,
    headers: JSON.parse(row.headers) as Record<string, string>,
    secrets: readSecrets(row.secrets),
    schemes: JSON.parse(row.schemes) as string[],
    auth: row.auth,
    tls: row.tls,
    format: row.format,
    versions: row.versions,
    handshake: row.handshake,
    sendsSequence: Number(row.sequence) === 1,
    isFailing,
  };
}
