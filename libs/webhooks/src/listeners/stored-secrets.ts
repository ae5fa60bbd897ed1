/** A secret as it is kept; times in ms. */
export interface StoredSecret {
  readonly value: string;
  readonly createdAt: number;
  /** When it stops signing; `null` while it is the present one. */
  readonly expiresAt: number | null;
}

interface SecretsDocument {
  v: 1;
  secrets: StoredSecret[];
}

/** How long a secret that no longer signs still answers the verify view. */
export const VERIFIABLE_FOR_MS = 7 * 24 * 60 * 60 * 1_000;

export function writeSecrets(secrets: readonly StoredSecret[]): string {
  return JSON.stringify({ v: 1, secrets: [...secrets] } satisfies SecretsDocument);
}

export function readSecrets(text: string): StoredSecret[] {
  return (JSON.parse(text) as SecretsDocument).secrets;
}

/** Those that sign at this time, newest first. */
export function signingSecrets(secrets: readonly StoredSecret[], now: number): string[] {
  return secrets.filter((secret) => secret.expiresAt === null || secret.expiresAt > now).map((secret) => secret.value);
}

/** Those whose signature the verify view still knows. */
export function verifiableSecrets(text: string, now: number): string[] {
  return readSecrets(text)
    .filter((secret) => secret.expiresAt === null || secret.expiresAt + VERIFIABLE_FOR_MS > now)
    .map((secret) => secret.value);
}

/** Puts a new secret first; the one before it signs on for the overlap, and what nobody may use any more is forgotten. */
export function rotate(text: string, value: string, now: number, overlapMs: number): string {
  const older = readSecrets(text)
    .map((secret) => ({ ...secret, expiresAt: Math.min(secret.expiresAt ?? Infinity, now + overlapMs) }))
    .filter((secret) => secret.expiresAt + VERIFIABLE_FOR_MS > now);
  return writeSecrets([{ value, createdAt: now, expiresAt: null }, ...older]);
}
