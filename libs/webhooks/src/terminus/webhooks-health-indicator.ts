import { Inject, Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import type { DispatcherActivity } from '../dispatcher/dispatcher.service.js';
import { ConfigurationError } from '../errors.js';
import { messageOf } from '../foreign-text.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';
import type { Backlog } from '../store/queue/read-backlog.js';
import { MINUTE, SECOND } from '../time.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';

/** Options of {@link WebhooksHealthIndicator.isAlive}. */
export interface WebhooksHealthOptions {
  /**
   * The instance that is checked. Give the name of the data source of the instance, as in `WebhooksModule.forRoot({
   * dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
}

/** Options of {@link WebhooksHealthIndicator.isKeepingUp}. */
export interface KeepingUpOptions extends WebhooksHealthOptions {
  /** If the lag reaches this time, the check is degraded. In ms. @defaultValue 60_000 */
  degradedLagMs?: number;
  /** If the lag reaches this time, the check of a process that dispatches is down. In ms. @defaultValue 600_000 */
  downLagMs?: number;
  /** If the database does not answer within this time, it counts as unreachable. In ms. @defaultValue 5_000 */
  timeoutMs?: number;
}

/** The longest turn of a healthy loop. Even if the database hangs, a statement is ended earlier than this time. */
const LONGEST_TURN_MS = MINUTE;
const POLLS_MISSED = 3;
/** Share of the active listeners that may fail before the check is degraded. */
const FAILING_SHARE = 0.2;

/**
 * Health checks of an instance, for a controller of `@nestjs/terminus`. Failing receivers never make the application
 * unhealthy. The application still serves its own requests, and a restart repairs no receiver.
 *
 * @example
 * \@Get('live') @HealthCheck() live() {
 *   return this.health.check([() => this.webhooks.isAlive('webhooks')]);
 * }
 * \@Get('ready') @HealthCheck() ready() {
 *   return this.health.check([() => this.webhooks.isKeepingUp('webhooks')]);
 * }
 */
@Injectable()
export class WebhooksHealthIndicator {
  /** @internal */
  constructor(
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(ModuleRef) private readonly modules: ModuleRef,
  ) {}

  /**
   * The check for liveness. The check is down if the dispatcher's loop hangs. Then only a restart helps. The check
   * does not read the database. If the dispatcher of a process does not run, the check is up.
   *
   * @throws ConfigurationError `WEBHOOKS_MODULE_MISSING`
   */
  isAlive<const Key extends string>(key: Key, { dataSource }: WebhooksHealthOptions = {}): HealthIndicatorResult<Key> {
    const runtime = this.runtimeOf(dataSource);
    const { isRunning, turnedAt } = runtime.dispatcher.activity;
    const check = this.indicators.check(key);
    if (!isRunning) return check.up({ dispatching: false });
    const { pollIntervalMs } = runtime.options.dispatcher;
    const sinceMs = Math.round(performance.now() - turnedAt);
    const limitMs = Math.max(POLLS_MISSED * pollIntervalMs, LONGEST_TURN_MS);
    const detail = { dispatching: true, lastTurnMsAgo: sinceMs };
    return sinceMs <= limitMs ? check.up(detail) : check.down(detail);
  }

  /**
   * The check for readiness and for people. The check is down if the tables cannot be read. In a process that
   * dispatches, it is also down if events or due deliveries are later than `downLagMs`. The check is degraded if
   * events or due deliveries are later than `degradedLagMs`, if attempts cannot be recorded, if sending is paused, or
   * if more than a fifth of the active listeners fail. While sending is paused, late deliveries never make it down.
   *
   * Terminus 12 answers 200 for `degraded`. Terminus 11 has no such state. With Terminus 11, a degraded check is up and
   * has `degraded: true`.
   *
   * @throws ConfigurationError `WEBHOOKS_MODULE_MISSING`
   */
  async isKeepingUp<const Key extends string>(
    key: Key,
    options: KeepingUpOptions = {},
  ): Promise<HealthIndicatorResult<Key>> {
    const { dataSource, degradedLagMs = MINUTE, downLagMs = 10 * MINUTE, timeoutMs = 5 * SECOND } = options;
    const runtime = this.runtimeOf(dataSource);
    const check = this.indicators.check(key);
    let backlog: Backlog;
    let isPaused: boolean;
    try {
      const read = Promise.all([runtime.backlog(), runtime.system.sending()]);
      [backlog, { paused: isPaused }] = await within(timeoutMs, read);
    } catch (error) {
      return check.down({ message: `The webhook tables cannot be read: ${messageOf(error)}` });
    }
    const { activity } = runtime.dispatcher;
    const detail = detailOf(backlog, activity, isPaused);
    // An operator who pauses sending must not take the application out of service.
    const lagMs = Math.max(backlog.outboxLagMs, isPaused ? 0 : backlog.queueLagMs);
    if (activity.isRunning && lagMs >= downLagMs) return check.down(detail);
    const isDegraded = lagMs >= degradedLagMs || activity.isRefused || isPaused || isFailing(backlog);
    if (!isDegraded) return check.up(detail);
    const hasDegraded = typeof (check as { degraded?: unknown }).degraded === 'function';
    return hasDegraded ? check.degraded(detail) : check.up({ ...detail, degraded: true });
  }

  private runtimeOf(dataSource = DEFAULT_INSTANCE): WebhooksRuntime {
    try {
      return this.modules.get<WebhooksRuntime>(runtimeToken(dataSource), { strict: false });
    } catch (cause) {
      throw new ConfigurationError(
        'WEBHOOKS_MODULE_MISSING',
        `WebhooksHealthIndicator checks the instance of the data source '${dataSource}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot() for this data source in your root module.`,
        { cause },
      );
    }
  }
}

function detailOf(
  { outboxLagMs, queueLagMs, pending, listeners }: Backlog,
  activity: DispatcherActivity,
  isPaused: boolean,
) {
  return {
    outboxLagMs,
    queueLagMs,
    pending,
    failingListeners: listeners.failing,
    disabledListeners: listeners.disabled,
    dispatching: activity.isRunning,
    refused: activity.isRefused,
    paused: isPaused,
    sending: activity.slotsUsed,
  };
}

function isFailing({ listeners: { active, failing } }: Backlog): boolean {
  return failing > FAILING_SHARE * (active + failing);
}

/** @throws Error when the time is over */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
