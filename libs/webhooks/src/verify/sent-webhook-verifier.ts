import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { keyTypeOf, readSecrets, verifiableSecrets, type StoredSecret } from '../listeners/stored-secrets.js';
import { generateSecret } from '../signing/secret.js';
import { publicKeyOf } from '../signing/ed25519-key.js';
import type { KeyType, SignatureScheme } from '../signing/signature-scheme.js';
import { signaturesInPieces, StandardScheme } from '../signing/standard-scheme.js';
import { readSentDeliveries, readSentEvent, type SentDelivery, type SentEvent } from '../store/sent-deliveries.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { type Turn, Turns } from '../turns.js';
import { WebhooksLogger } from '../webhooks-logger.js';

/** A delivered request, handed back. */
export interface ReturnedWebhook {
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** The body byte for byte. */
  readonly body: Buffer;
}

/** Listeners that are asked about at once: so many, or so few that their bodies are no more than this many bytes. */
const DELIVERIES_PER_PAGE = 500;
const BYTES_PER_PAGE = 4 * 1_024 * 1_024;
/**
 * Listeners that are asked about for one request, the newest first. An event that went to more is answered `INVALID` to
 * the oldest of them: the alternative is that one request costs as many HMACs as an application has listeners.
 */
export const MAX_LISTENERS_ASKED = 10_000;
/** Answers leave at multiples of this after the request: what is left of different work does not show. */
export const ANSWER_STEP_MS = 50;

/** A sequence that no row has: databases count from 1. */
const NO_EVENT: SentEvent = { seq: 0, body: null };
const NO_ID = 'evt_none';
/** Longest id that the tables hold, in characters that every collation compares with ours. */
const ID = /^[\x21-\x7e]{1,64}$/;
const TIMESTAMP = /^(?:0|[1-9]\d{0,11})$/;

/**
 * Answers "did you send this?".
 *
 * Says neither by its answer nor by its time why something is not genuine: an unknown id runs the same statements, compares
 * as many bytes and computes an HMAC over the body like a known one, and answers leave in steps of {@link ANSWER_STEP_MS}.
 * Only who has an event's exact body makes more than one HMAC happen, and knows that the event exists. After each key other
 * requests may have a turn.
 *
 * @internal
 */
export class SentWebhookVerifier {
  private readonly logger = new WebhooksLogger('WebhooksVerify');
  private readonly dummyScheme = new StandardScheme();
  private readonly dummySecret = generateSecret();
  private readonly turns = new Turns();

  constructor(private readonly runtime: WebhooksRuntime) {}

  /** Twice what a payload may have, in bytes: a format may make more of it. */
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
      const page = yield* readSentDeliveries(database, event.seq, { bodyLength, before: null, limit: pageSize });
      return { event, page };
    });
    const { event } = first;
    const isEventBody = isSame(body, event.body);

    let { page } = first;
    let isGenuine = false;
    let hasHashed = false;
    for (let asked = page.length; ; asked += page.length) {
      for (const delivery of page) {
        await turn.pass();
        if (!(delivery.hasEventBody ? isEventBody : isSame(body, delivery.body))) continue;
        hasHashed = true;
        if (await this.isSignedFor(delivery, claim, { body, turn })) isGenuine = true;
      }
      const last = page.at(-1);
      if (isGenuine || !last || page.length < pageSize || asked >= MAX_LISTENERS_ASKED) break;
      const limit = Math.min(pageSize, MAX_LISTENERS_ASKED - asked);
      page = await database.transaction(() =>
        readSentDeliveries(database, event.seq, { bodyLength, before: last.listenerId, limit }),
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
          if (this.holds(scheme, { ...claim, headers, body, secrets: [key] }, delivery)) isSigned = true;
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
          // The public key stands beside what is sealed: whoever writes the tables could have written another one.
          if (isPair && !sealing.requireSealed) return [publicKey];
          const key = sealing.open(value, 'secret', listenerId);
          return [isPair ? publicKeyOf(key) : key];
        } catch (error) {
          // One listener's secret that cannot be read must not decide about the others.
          this.logger.error(error instanceof Error ? error.message : String(error));
          return [];
        }
      });
  }

  /** One listener's secret that its scheme cannot use must not decide about the others. */
  private holds(
    scheme: SignatureScheme | undefined,
    input: Parameters<SignatureScheme['verify']>[0],
    { listenerId }: SentDelivery,
  ): boolean {
    try {
      return scheme?.verify(input) ?? false;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.logger.error(
        `The signature scheme '${scheme?.name}' threw on a webhook to listener ${listenerId}: ${reason}`,
      );
      return false;
    }
  }
}

/** What the headers say; what is missing or misshapen is replaced by something that fits nothing. */
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

/** Byte for byte, in a time that depends on the given body alone. */
function isSame(given: Buffer, stored: string | null): boolean {
  const bytes = stored === null ? null : Buffer.from(stored, 'utf8');
  const isComparable = bytes !== null && bytes.length === given.length;
  return timingSafeEqual(given, isComparable ? bytes : Buffer.from(given)) && isComparable;
}
