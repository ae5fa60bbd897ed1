import { randomBytes } from 'node:crypto';
import type { LoggerService } from '@nestjs/common';
import type { WebhookClock } from '../clock.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import { JSON_CONTENT_TYPE } from '../events/payload-format.js';
import { newId } from '../ids.js';
import { shownAuth } from '../listeners/credentials/listener-auth.js';
import { judgeChallenge, judgePermission, type Verdict } from '../listeners/handshake/handshake.js';
import { CHALLENGE_TYPE } from '../events/reserved-names.js';
import { showsTiming, type Outcome } from '../sending/outcome.js';
import type { SignedRequest } from '../sending/transport.js';
import type { ClaimedHandshake } from '../store/queue/claimed-delivery.js';
import type { Database } from '../store/database/database.js';
import { readListener } from '../store/listeners/listener-rows.js';
import { recordHandshake, type HandshakeResult } from '../store/queue/record-handshake.js';
import type { AuthorizedTransport } from './authorized-transport.js';
import { HandshakeLimits } from './handshake-limits.js';
import type { OperationalEvents } from './operational-events.js';
import type { Notices } from './notices.js';
import { originOf, signRequest, type Signers } from './sign-delivery.js';
import { isCausedByOptions, WAIT_MS, type WaitingListeners } from './waiting-listeners.js';
import { messageOf } from '../foreign-text.js';

/** Dependencies and callbacks of the handshakes. */
export interface HandshakesParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly transport: AuthorizedTransport;
  readonly signers: Signers;
  readonly retrySchedule: RetrySchedule;
  readonly logger: LoggerService;
  readonly waiting: WaitingListeners;
  readonly notices: Notices;
  readonly operational: OperationalEvents;
  /** Settles when the time limit of a request that began at this time is over; see `hideTiming` of the dispatcher. */
  readonly hideTiming: (began: number) => Promise<void>;
  /** Called when a listener may be ready at this time. */
  readonly expect: (at: number, listenerId: string) => void;
}

/**
 * Maximum number of handshakes in flight in this process. Handshakes are rare. If an application creates many listeners, their
 * handshakes wait for each other.
 */
const AT_ONCE = 16;
/** Maximum number of handshakes in flight of one owner. */
const AT_ONCE_PER_OWNER = 4;
const OWNER_BUSY_MS = 1_000;
const FAULTS_OF_SENDER: ReadonlySet<string | null> = new Set(['OUT_OF_SOCKETS', 'TRANSPORT_CLOSED']);
const CHALLENGE_BYTES = 32;
/**
 * Maximum number of tries, even if the retry schedule never ends. Without this limit, such a schedule would send
 * requests to an uninvolved host without end. The default schedule makes ten tries.
 */
const MAX_TRIES = 20;

/**
 * Asks receivers before the first delivery whether they want webhooks. A handshake is claimed, sent and recorded in the same way as a
 * delivery. A handshake has a lease, a time limit and credentials. The address guard checks the address. Redirects are not followed.
 * Nothing else is sent to a listener until its handshake passes. If the retry schedule ends, or after {@link MAX_TRIES} tries, the
 * listener is disabled.
 */
export class Handshakes {
  private readonly running = new Set<Promise<void>>();
  private readonly runningOf = new Map<string, number>();
  private readonly limits = new HandshakeLimits();

  constructor(private readonly parts: HandshakesParts) {}

  get room(): number {
    return Math.max(0, AT_ONCE - this.running.size);
  }

  get isIdle(): boolean {
    return this.running.size === 0;
  }

  begin(claimed: readonly ClaimedHandshake[]): void {
    for (const handshake of claimed) {
      const trying = this.attempt(handshake).finally(() => this.running.delete(trying));
      this.running.add(trying);
    }
  }

  /**
   * When to try again, if the handshake may not be sent now. Without a limit, slow receivers of one owner would delay
   * other owners.
   */
  private postponedUntil({ owner, listener }: ClaimedHandshake, now: number): number | null {
    if (owner !== null && (this.runningOf.get(owner) ?? 0) >= AT_ONCE_PER_OWNER) return now + OWNER_BUSY_MS;
    const auth = shownAuth(listener.auth);
    const urls = [listener.url, ...(auth?.type === 'oauth2' ? [auth.tokenUrl] : [])];
    return this.limits.take(
      owner,
      urls.map((url) => new URL(url).hostname),
      now,
    );
  }

  async settled(): Promise<void> {
    while (this.running.size) await Promise.all(this.running);
  }

  /** Makes one try of a handshake. The promise never rejects. */
  private async attempt(handshake: ClaimedHandshake): Promise<void> {
    const { clock, database, logger, notices, expect, operational } = this.parts;
    const { owner } = handshake;
    const { id, url } = handshake.listener;
    try {
      const result = await this.resultOf(handshake);
      const script = function* () {
        const hasEffect = yield* recordHandshake(database, handshake, result);
        if (hasEffect && result.state === 'failed') {
          yield* operational.ofDisabled({ id, url, owner }, result.reason, clock.now());
        }
        return hasEffect;
      };
      if (!(await database.transaction(script, 'work'))) return;
      if (result.state === 'failed') {
        const listener = await database.single(() => readListener(database, id, undefined), 'work');
        if (listener) notices.disabled(listener, result.reason, { by: 'handshake' });
      }
      expect('next' in result ? result.next : 0, id);
    } catch (error) {
      logger.error(`The handshake of listener ${id} could not be recorded and is repeated: ${messageOf(error)}`);
      expect(handshake.leaseUntil, id);
    }
  }

  private async resultOf(handshake: ClaimedHandshake): Promise<HandshakeResult> {
    const { clock, logger, waiting } = this.parts;
    const { id } = handshake.listener;
    const startedAt = clock.now();
    const began = performance.now();
    const next = this.postponedUntil(handshake, startedAt);
    if (next !== null) return { state: 'postponed', next };
    const { owner } = handshake;
    if (owner !== null) this.runningOf.set(owner, (this.runningOf.get(owner) ?? 0) + 1);
    try {
      const { outcome, verdict } = await this.ask(handshake, startedAt);
      waiting.delete(id);
      if (owner !== null && !showsTiming(outcome)) await this.parts.hideTiming(began);
      if (FAULTS_OF_SENDER.has(outcome.errorCode)) return { state: 'postponed', next: startedAt + WAIT_MS };
      if ('agreed' in verdict) return { state: 'passed', allowedRate: verdict.allowedRate, at: clock.now() };
      if (outcome.errorDetail !== null) logger.warn(`The handshake of listener ${id} failed: ${outcome.errorDetail}`);
      // Customers read these times, and the times must not reveal how long a blocked attempt took.
      return this.failure(handshake, verdict.error, startedAt, showsTiming(outcome) ? clock.now() : startedAt, outcome);
    } catch (error) {
      if (isCausedByOptions(error)) {
        waiting.add(id, error, startedAt);
        return { state: 'postponed', next: startedAt + WAIT_MS };
      }
      logger.error(`The handshake of listener ${id} could not be sent: ${messageOf(error)}`);
      return this.failure(handshake, 'TRANSPORT_FAILED', startedAt, startedAt, { retryAfterMs: null });
    } finally {
      if (owner !== null) this.countEnd(owner);
    }
  }

  private countEnd(owner: string): void {
    const left = (this.runningOf.get(owner) ?? 1) - 1;
    if (left) this.runningOf.set(owner, left);
    else this.runningOf.delete(owner);
  }

  private async ask({ listener }: ClaimedHandshake, now: number): Promise<{ outcome: Outcome; verdict: Verdict }> {
    const { transport, signers } = this.parts;
    if (listener.handshake === 'cloudevents') {
      const origin = originOf(listener, signers);
      const request: SignedRequest = {
        url: listener.url,
        method: 'OPTIONS',
        headers: { ...listener.headers, 'webhook-request-origin': origin },
        body: Buffer.alloc(0),
        timeoutMs: signers.timeoutMs,
      };
      const outcome = await transport.send(request, listener);
      return { outcome, verdict: judgePermission(outcome, origin) };
    }
    // Each try has a new challenge. So an intercepted challenge is useless.
    const challenge = randomBytes(CHALLENGE_BYTES).toString('base64url');
    const body = JSON.stringify({
      type: CHALLENGE_TYPE,
      timestamp: new Date(now).toISOString(),
      data: { challenge, listenerId: listener.id },
    });
    const headers = { ...listener.headers, 'content-type': JSON_CONTENT_TYPE };
    const request = { id: newId('evt'), headers, body: Buffer.from(body) };
    const outcome = await transport.send(signRequest(listener, request, now, signers), listener);
    return { outcome, verdict: judgeChallenge(outcome, challenge) };
  }

  private failure(
    { failures, listener }: ClaimedHandshake,
    error: string,
    startedAt: number,
    now: number,
    { retryAfterMs }: Pick<Outcome, 'retryAfterMs'>,
  ): HandshakeResult {
    const delay = this.delayMs(failures + 1, listener.id);
    const next = delay === null ? null : Math.ceil(now + Math.max(delay, retryAfterMs ?? 0));
    if (next !== null && failures + 1 < MAX_TRIES) return { state: 'retry', error, at: startedAt, next };
    return { state: 'failed', error, at: startedAt, reason: `the handshake failed: ${error}` };
  }

  /** Returns the delay before the next try. A schedule that throws, or that returns an invalid time, must not end the handshake. */
  private delayMs(failures: number, listenerId: string): number | null {
    try {
      const delay = this.parts.retrySchedule.delayMs(failures);
      if (delay === null || Number.isSafeInteger(Math.ceil(delay))) return delay;
      throw new TypeError(`it returned ${delay} ms`);
    } catch (error) {
      this.parts.logger.error(
        `The retry schedule failed; the handshake of listener ${listenerId} is retried in a minute: ${messageOf(error)}`,
      );
      return WAIT_MS;
    }
  }
}
