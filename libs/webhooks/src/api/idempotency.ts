import { tupleHash } from '../hash.js';
import { readSecrets } from '../secrets/stored-secrets.js';
import { readListener } from '../store/listeners/listener-rows.js';
import {
  freeKey,
  keepAnswer,
  KEY_KNOWN_FOR_MS,
  takeKey,
  type IdempotentRequest,
} from '../store/requests/idempotency.js';
import { MINUTE } from '../time.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { ApiError, invalidRequest } from './api-error.js';
import { IDEMPOTENCY_KEY } from './openapi.js';
import type { ApiAnswer } from './route.js';
import { violations } from './schema.js';

/** If a request has no answer after this time, the process that handled it has died. */
const ABANDONED_AFTER_MS = 2 * MINUTE;

/** A stored answer. It does not contain the secret of a listener: only the listener's row does. */
interface KeptAnswer {
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly secretOf?: string;
  /** Hash of the stored secret. A repeated request gets the secret only while the hash still matches. */
  readonly secretMark?: string;
}

/** The values that identify a request with an idempotency key. */
export interface KeyedRequest {
  /** The caller, the route and the key. */
  readonly parts: readonly string[];
  readonly owner: string | null;
  readonly body: string;
}

/** Gives a repeated request the answer to the first request, and does nothing else. */
export class Idempotency {
  constructor(private readonly runtime: WebhooksRuntime) {}

  /** @throws ApiError `IDEMPOTENCY_KEY_REUSED`, `IDEMPOTENCY_KEY_IN_USE`, and what `run` throws */
  async once(
    { parts, owner, body }: KeyedRequest,
    status: number,
    run: () => Promise<ApiAnswer>,
  ): Promise<{ answer: ApiAnswer; isReplayed: boolean }> {
    const { database, clock } = this.runtime;
    const key = tupleHash('idempotency', ...parts);
    const bodyHash = tupleHash('body', body);
    const now = clock.now();
    const times = { now, expiredBefore: now - KEY_KNOWN_FOR_MS, abandonedBefore: now - ABANDONED_AFTER_MS };
    const taken = await database.transaction(() => takeKey(database, { key, bodyHash, owner, ...times }));
    if (taken) return { answer: await this.replayed(taken, bodyHash), isReplayed: true };
    const answer = await this.run(key, run);
    const kept = JSON.stringify(await this.withoutSecret(answer));
    await database.transaction(() => keepAnswer(database, key, status, kept));
    return { answer, isReplayed: false };
  }

  /**
   * A refused request has changed nothing, so its key is free again. After any other error the effect is unknown, so the key stays in use
   * until the request counts as abandoned.
   */
  private async run(key: Buffer, run: () => Promise<ApiAnswer>): Promise<ApiAnswer> {
    const { database } = this.runtime;
    try {
      return await run();
    } catch (error) {
      if (typeof (error as { httpStatus?: unknown }).httpStatus === 'number') {
        await database.transaction(() => freeKey(database, key));
      }
      throw error;
    }
  }

  private async replayed({ bodyHash, status, answer }: IdempotentRequest, given: Buffer): Promise<ApiAnswer> {
    if (!bodyHash.equals(given)) {
      throw new ApiError(
        'IDEMPOTENCY_KEY_REUSED',
        422,
        'This Idempotency-Key was used with another body. Use a new key for each request.',
      );
    }
    if (status === null || answer === null) {
      throw new ApiError(
        'IDEMPOTENCY_KEY_IN_USE',
        409,
        'A request with this Idempotency-Key is being handled. Try again in a moment.',
        { headers: { 'Retry-After': '5' } },
      );
    }
    const { secretOf, secretMark, ...kept } = JSON.parse(answer) as KeptAnswer;
    if (secretOf === undefined || secretMark === undefined) return kept;
    return { ...kept, body: { ...(kept.body as object), secret: await this.secretOf(secretOf, secretMark) } };
  }

  private async withoutSecret({ status, body, headers = {}, secretOf }: ApiAnswer): Promise<KeptAnswer> {
    if (secretOf === undefined) return { ...(status === undefined ? {} : { status }), body, headers };
    const { secret: _, ...rest } = body as { secret: string };
    const [newest] = await this.secretsOf(secretOf);
    return { body: rest, headers, secretOf, ...(newest ? { secretMark: markOf(newest.value) } : {}) };
  }

  /** `null` if the secret was replaced in the meantime. */
  private async secretOf(listenerId: string, mark: string): Promise<string | null> {
    const [newest] = await this.secretsOf(listenerId);
    const stored = newest && markOf(newest.value) === mark ? newest : null;
    return stored ? this.runtime.sealing.open(stored.value, 'secret', listenerId) : null;
  }

  private async secretsOf(listenerId: string) {
    const { database } = this.runtime;
    const row = await database.single(() => readListener(database, listenerId, undefined));
    return row ? readSecrets(row.secrets).filter(({ publicKey }) => publicKey === undefined) : [];
  }
}

/** @throws ApiError `INVALID_REQUEST` */
export function readIdempotencyKey(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const [fault] = violations(IDEMPOTENCY_KEY, text);
  if (fault) throw invalidRequest([{ parameter: 'Idempotency-Key', detail: fault.detail }]);
  return text;
}

function markOf(stored: string): string {
  return tupleHash('secret', stored).toString('hex');
}
