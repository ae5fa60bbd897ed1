import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { keyTypeOf, readSecrets, verifiableSecrets, type StoredSecret } from '../secrets/stored-secrets.js';
import { generateSecret } from '../signing/secret.js';
import { publicKeyOf } from '../signing/ed25519-key.js';
import type { KeyType, SignatureScheme } from '../signing/signature-scheme.js';
import { signaturesInPieces, StandardScheme } from '../signing/standard-scheme.js';
import {
  readSentDeliveries,
  readUnstoredDeliveries,
  readSentEvent,
  type SentDelivery,
  type SentEvent,
} from '../store/queue/sent-deliveries.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { type Turn, Turns } from '../turns.js';
import { TroubleLog, WebhooksLogger } from '../webhooks-logger.js';
import { messageOf } from '../foreign-text.js';

/** A webhook that a receiver posted back. */
export interface ReturnedWebhook {
  /** Header names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** The unchanged bytes of the body. */
  readonly body: Buffer;
}

/** The two limits of one page of listeners: the number of deliveries, and the total size of their bodies in bytes. */
const DELIVERIES_PER_PAGE = 500;
const BYTES_PER_PAGE = 4 * 1_024 * 1_024;
/**
 * Maximum number of listeners that are checked for one request, newest first. If an event was sent to more listeners,
 * the oldest of these listeners get `INVALID`. Without a limit, one request could cost one HMAC for each listener of
 * the application.
 */
const MAX_LISTENERS_CHECKED = 10_000;
/**
 * Answers are sent at multiples of this time after the request. So the time of an answer does not reveal the
 * duration of the work.
 */
const ANSWER_STEP_MS = 50;

/** A sequence number that no row has: databases count from 1. */
const NO_EVENT: SentEvent = { seq: 0, createdAt: 0, body: null };
const NO_ID = 'evt_none';
/**
 * The form of an id. An id is at most as long as the tables allow. It has only characters that every collation compares
 * in the same way.
 */
const ID = /^[\x21-\x7e]{1,64}$/;
const TIMESTAMP = /^(?:0|[1-9]\d{0,11})$/;

/**
 * Answers the question "did you send this webhook?".
 *
 * Neither the answer nor its time reveals why a webhook is not genuine. For an unknown id and for a known id, the verifier runs the same
 * statements, compares the same number of bytes, and computes an HMAC over the body. Answers are sent in steps of {@link ANSWER_STEP_MS}.
 * The verifier computes more than one HMAC only if the caller sent the exact body of an event. Such a caller already knows that the event
 * exists. After each key, other requests may use the event loop.
 *
 * @internal
 */
export class SentWebhookVerifier {
  private readonly logger = new WebhooksLogger('WebhooksVerify');
  private readonly trouble = new TroubleLog();
  private readonly dummyScheme = new StandardScheme();
  private readonly dummySecret = generateSecret();
  private readonly turns = new Turns();

  constructor(private readonly runtime: WebhooksRuntime) {}

  /** Twice the maximum size of a payload, in bytes, because a payload format may add text. */
  get bodyLimitBytes(): number {
    return 2 * this.runtime.options.payload.maxPayloadBytes;
  }

  async verify(webhook: ReturnedWebhook): Promise<boolean> {
    const startedAt = performance.now();
    try {
      return await this.wasSent(webhook);
    } finally {
      const elapsed = performance.now() - startedAt;
      await wait(Math.ceil(elapsed / ANSWER_STEP_MS) * ANSWER_STEP_MS - elapsed);
    }
  }

  private async wasSent({ headers, body }: ReturnedWebhook): Promise<boolean> {
    const claim = readClaim(headers);
    const { database } = this.runtime;
    const bodyLength = body.length;
    const pageSize = Math.max(1, Math.min(DELIVERIES_PER_PAGE, Math.floor(BYTES_PER_PAGE / (bodyLength + 1))));
    const turn = this.turns.begin();
    const first = await database.transaction(function* () {
      const event = (yield* readSentEvent(database, claim.id, bodyLength)) ?? NO_EVENT;
      const page = yield* readSentDeliveries(database, event, { bodyLength, before: null, limit: pageSize });
      return { event, page, unstored: yield* readUnstoredDeliveries(database, event) };
    });
    const { event, unstored } = first;
    const isEventBody = isSame(body, event.body);

    let { page } = first;
    let isGenuine = false;
    let hasHashed = false;
    for (let checkedCount = page.length; ; checkedCount += page.length) {
      for (const delivery of page === first.page ? [...unstored, ...page] : page) {
        await turn.pass();
        if (!(delivery.hasEventBody ? isEventBody : isSame(body, delivery.body))) continue;
        hasHashed = true;
        if (await this.isSignedFor(delivery, claim, { body, turn })) isGenuine = true;
      }
      const last = page.at(-1);
      if (isGenuine || !last || page.length < pageSize || checkedCount >= MAX_LISTENERS_CHECKED) break;
      const limit = Math.min(pageSize, MAX_LISTENERS_CHECKED - checkedCount);
      page = await database.transaction(() =>
        readSentDeliveries(database, event, { bodyLength, before: last.listenerId, limit }),
      );
    }
    if (!hasHashed) this.dummyScheme.verify({ ...claim, body, secrets: [this.dummySecret] });
    return isGenuine && claim.isComplete;
  }

  private async isSignedFor(
    delivery: SentDelivery,
    claim: Claim,
    { body, turn }: { body: Buffer; turn: Turn },
  ): Promise<boolean> {
    const kept = verifiableSecrets(readSecrets(delivery.secrets), this.runtime.clock.now());
    let isSigned = false;
    for (const name of delivery.schemes) {
      const scheme = this.runtime.schemes.get(name);
      const pieces =
        scheme instanceof StandardScheme && scheme.keyType === 'ed25519'
          ? signaturesInPieces(claim.headers, body.length)
          : [claim.headers];
      for (const key of this.keysOf(kept, delivery.listenerId, scheme?.keyType ?? 'secret')) {
        for (const headers of pieces) {
          await turn.pass();
          if (this.isValid(scheme, { ...claim, headers, body, secrets: [key] }, delivery)) isSigned = true;
        }
      }
    }
    return isSigned;
  }

  private keysOf(kept: readonly StoredSecret[], listenerId: string, type: KeyType): string[] {
    const { sealing } = this.runtime;
    return kept
      .filter((secret) => keyTypeOf(secret) === type)
      .flatMap(({ value, publicKey }) => {
        try {
          const isPair = publicKey !== undefined;
          // The public key is stored unsealed, so an attacker who can write to the tables may have replaced it.
          if (isPair && !sealing.requireSealed) return [publicKey];
          const key = sealing.open(value, 'secret', listenerId);
          return [isPair ? publicKeyOf(key) : key];
        } catch (error) {
          // An unreadable secret of one listener must not affect the other listeners.
          this.logOnceAMinute(messageOf(error));
          return [];
        }
      });
  }

  /** Whether a signature is valid. A secret that its scheme cannot use must not affect the other listeners. */
  private isValid(
    scheme: SignatureScheme | undefined,
    input: Parameters<SignatureScheme['verify']>[0],
    { listenerId }: SentDelivery,
  ): boolean {
    try {
      return scheme?.verify(input) ?? false;
    } catch (error) {
      const reason = messageOf(error);
      this.logOnceAMinute(
        `The signature scheme '${scheme?.name}' threw while it verified a webhook of listener ${listenerId}: ${reason}`,
      );
      return false;
    }
  }

  /** Everyone who has a webhook of the listener can cause the same error with each request. */
  private logOnceAMinute(message: string): void {
    if (!this.trouble.failed()) return;
    this.logger.error(message);
    this.trouble.recovered();
  }
}

/** The values of the headers. A missing or malformed value is replaced with a value that matches nothing. */
interface Claim {
  readonly id: string;
  readonly timestamp: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly isComplete: boolean;
}

function readClaim(given: IncomingHttpHeaders): Claim {
  const headers: Record<string, string | undefined> = {};
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === 'string') headers[name] = value;
  }
  const id = headers['webhook-id'] ?? '';
  const timestamp = headers['webhook-timestamp'] ?? '';
  const hasId = ID.test(id);
  const hasTimestamp = TIMESTAMP.test(timestamp);
  return {
    id: hasId ? id : NO_ID,
    timestamp: hasTimestamp ? Number(timestamp) : 0,
    headers,
    isComplete: hasId && hasTimestamp,
  };
}

/** Compares two bodies byte for byte. The time depends only on the given body. */
function isSame(given: Buffer, stored: string | null): boolean {
  const bytes = stored === null ? null : Buffer.from(stored, 'utf8');
  const isComparable = bytes !== null && bytes.length === given.length;
  return timingSafeEqual(given, isComparable ? bytes : Buffer.from(given)) && isComparable;
}
