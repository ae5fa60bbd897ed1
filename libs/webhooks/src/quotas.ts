import { BadRequestError } from './errors.js';
import type { WebhookClock } from './clock.js';
import { PerMinute } from './per-minute.js';

/** The quotas of one owner: the option `limits` with every default filled in. */
export interface Limits {
  readonly listenersPerOwner: number;
  readonly testsPerMinute: number;
  readonly resendsPerMinute: number;
  readonly attemptsPerDelivery: number;
}

const TOO_MANY_REQUESTS = 429;
const CONFLICT = 409;

/** Unfinished tasks of one listener. More tasks would only compete for the same deliveries. */
const TASKS_PER_LISTENER = 2;
/** Unfinished tasks that one owner has created. */
const TASKS_PER_OWNER = 10;

/** An owner has reached a quota. `details` has the `limit` and, if waiting helps, `retryAt` (ms since 1970). */
export class QuotaError extends BadRequestError {
  constructor(
    code: 'TOO_MANY_LISTENERS' | 'TOO_MANY_TESTS' | 'TOO_MANY_RESENDS' | 'TOO_MANY_ATTEMPTS' | 'TOO_MANY_TASKS',
    message: string,
    details: { readonly limit: number; readonly retryAt?: number },
  ) {
    super(code, message, { details, httpStatus: details.retryAt === undefined ? CONFLICT : TOO_MANY_REQUESTS });
  }
}

/**
 * Enforces the quotas of owner-bound services. Each process counts the calls per minute for itself. Services that are not bound to an
 * owner have no quotas. @internal
 */
export class Quotas {
  private readonly counts = new PerMinute();

  constructor(
    readonly limits: Limits,
    private readonly clock: WebhookClock,
  ) {}

  /** @throws QuotaError `TOO_MANY_TESTS` */
  countTest(owner: string | undefined): void {
    const { testsPerMinute: limit } = this.limits;
    const retryAt = this.take('test', owner, limit);
    if (retryAt === null) return;
    throw new QuotaError('TOO_MANY_TESTS', `The limit of ${limit} tests a minute is reached. Try again in a minute.`, {
      limit,
      retryAt,
    });
  }

  /** @throws QuotaError `TOO_MANY_RESENDS` */
  countResend(owner: string | undefined): void {
    const { resendsPerMinute: limit } = this.limits;
    const retryAt = this.take('resend', owner, limit);
    if (retryAt === null) return;
    const message = `The limit of ${limit} resends, recoveries and replays a minute is reached. Try again in a minute.`;
    throw new QuotaError('TOO_MANY_RESENDS', message, { limit, retryAt });
  }

  /** @param count number of listeners of the owner @throws QuotaError `TOO_MANY_LISTENERS` */
  assertMayCreate(count: number): void {
    const { listenersPerOwner: limit } = this.limits;
    if (count < limit) return;
    throw new QuotaError('TOO_MANY_LISTENERS', `The limit of ${limit} listeners is reached. Remove a listener first.`, {
      limit,
    });
  }

  /** @param attempts number of attempts of the delivery so far @throws QuotaError `TOO_MANY_ATTEMPTS` */
  assertMayResend(owner: string | undefined, attempts: number): void {
    const { attemptsPerDelivery: limit } = this.limits;
    if (owner === undefined || attempts < limit) return;
    const message = `The delivery has had ${attempts} attempts, and the limit is ${limit}. The delivery cannot be resent.`;
    throw new QuotaError('TOO_MANY_ATTEMPTS', message, { limit });
  }

  /** Operators have the same limit for each listener. @throws QuotaError `TOO_MANY_TASKS` */
  assertMayStartTask({ ofListener, ofOwner }: { ofListener: number; ofOwner: number }): void {
    const isListener = ofListener >= TASKS_PER_LISTENER;
    if (!isListener && ofOwner < TASKS_PER_OWNER) return;
    const limit = isListener ? TASKS_PER_LISTENER : TASKS_PER_OWNER;
    const what = isListener ? 'for this listener' : 'of this owner';
    const message = `The limit of ${limit} unfinished tasks ${what} is reached. Wait for a task, or cancel one.`;
    throw new QuotaError('TOO_MANY_TASKS', message, { limit });
  }

  private take(action: string, owner: string | undefined, limit: number): number | null {
    if (owner === undefined) return null;
    return this.counts.take(new Map([[JSON.stringify([action, owner]), limit]]), this.clock.now());
  }
}
