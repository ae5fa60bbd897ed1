import { InvalidListenerError } from '../listener-errors.js';
import { assertSigningKey } from '../signing/ed25519-key.js';
import { MIN_SECRET_BYTES, generateSecret } from '../signing/secret.js';
import { type ListenerRow, type OwnerScope } from '../store/listeners/listener-rows.js';
import { type ResealedPage, resealListeners } from '../store/listeners/listener-secrets.js';
import { DAY } from '../time.js';
import { writeAudit, type AuditAction } from '../store/system/audit.js';
import type { ListenerChanges } from './listener-changes.js';
import { otherOwner } from './listener-owner.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener, ListenerWithSecret } from './listener.js';
import type { SigningKeys } from './signing-keys.js';
import { invalidValue } from '../show.js';

/** The maximum of `secrets.rotationOverlapMs`. */
const MAX_OVERLAP_MS = 30 * DAY;

/** Rotates and reseals the keys of listeners. */
export class ListenerKeys {
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly changes: ListenerChanges,
    private readonly keys: SigningKeys,
  ) {}

  async rotateSecret(id: string, options: { secret?: string; overlapMs?: number } = {}): Promise<ListenerWithSecret> {
    const overlapMs = this.overlapOf(options.overlapMs);
    const secret = options.secret ?? generateSecret();
    const listener = await this.changeKeys(id, 'listener.secret_rotated', overlapMs, (row) =>
      this.keys.withSecret(row, secret, overlapMs),
    );
    warnOfShortSecret(this.parts, listener.id, secret);
    return { ...listener, secret };
  }

  async rotateSigningKey(id: string, options: { privateKey?: string; overlapMs?: number } = {}): Promise<Listener> {
    const overlapMs = this.overlapOf(options.overlapMs);
    if (options.privateKey !== undefined) assertSigningKey(options.privateKey);
    return this.changeKeys(id, 'listener.signing_key_rotated', overlapMs, (row) =>
      this.keys.withPair(row, options.privateKey, overlapMs),
    );
  }

  async resealSecrets({ dryRun: isDryRun = false } = {}): Promise<{ resealed: number; unreadable: string[] }> {
    if (this.boundTo !== undefined) throw otherOwner();
    const { actor, database, sealing, clock, transactions } = this.parts;
    transactions.here().refuse('resealSecrets()');
    const total = { resealed: 0, unreadable: [] as string[] };
    for (let after: string | null = '0'; after !== null;) {
      const options = { sealing, now: clock.now(), after, isDryRun };
      const page: ResealedPage = await database.transaction(() => resealListeners(database, options));
      total.resealed += page.resealed;
      total.unreadable.push(...page.unreadable);
      after = page.last;
    }
    if (!isDryRun) {
      const details = { resealed: total.resealed, unreadable: total.unreadable.length };
      const entry = { actor, action: 'secrets.resealed', target: null, details } as const;
      await database.transaction(() => writeAudit(database, entry, clock.now()));
    }
    return total;
  }

  private overlapOf(given: number | undefined): number {
    const overlapMs = given ?? this.parts.options.secrets.rotationOverlapMs;
    if (Number.isSafeInteger(overlapMs) && overlapMs >= 0 && overlapMs <= MAX_OVERLAP_MS) return overlapMs;
    throw new InvalidListenerError(
      'INVALID_OVERLAP',
      invalidValue('overlapMs', given, `a whole number of milliseconds from 0 to ${MAX_OVERLAP_MS} (30 days)`),
    );
  }

  private changeKeys(
    id: string,
    action: AuditAction,
    overlapMs: number,
    secretsOf: (row: ListenerRow) => string,
  ): Promise<Listener> {
    return this.changes.change(this.parts.transactions.here(), id, (row) => ({
      values: { secrets: secretsOf(row) },
      routes: null,
      audit: { action, details: { overlapMs } },
    }));
  }
}

/**
 * Warns about a short secret. Some schemes accept any text, because then receivers can keep an old secret. Such
 * a secret may be a short word.
 */
export function warnOfShortSecret({ warn }: Pick<ListenerServiceParts, 'warn'>, id: string, secret: string): void {
  const bytes = Buffer.byteLength(secret);
  if (bytes >= MIN_SECRET_BYTES) return;
  warn(
    `The secret of listener ${id} has ${bytes} bytes. Anyone who sees a signed request can guess a secret below ${MIN_SECRET_BYTES} bytes. Rotate it to a longer secret.`,
  );
}
