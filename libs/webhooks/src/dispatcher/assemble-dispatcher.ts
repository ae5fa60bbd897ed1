import type { LoggerService } from '@nestjs/common';
import type { ImageConverter } from '../capture/triggers/image-converter.js';
import type { Cause } from '../cause.js';
import type { InFlightDeliveries } from '../deliveries/in-flight.js';
import type { WebhookClock } from '../clock.js';
import type { Diagnostics } from '../diagnostics/diagnostics.js';
import type { Engine, EngineHost } from '../engine.js';
import type { RetrySchedule } from '../health/retry-schedule.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { WebhookTransport } from '../sending/transport.js';
import type { DatabaseTime } from '../store/database/database-time.js';
import type { Database } from '../store/database/database.js';
import { takeTurn } from '../store/database/chores.js';
import { readReadyAt, readReadyListeners } from '../store/listeners/ready-listeners.js';
import type { BodyOf } from '../store/queue/rendered-body.js';
import type { AttemptDetails } from './attempt-details.js';
import type { AttemptLog } from './attempt-log.js';
import { AuthorizedTransport } from './authorized-transport.js';
import { AttemptStats } from './attempt-stats.js';
import { Claims } from './claims.js';
import { ExpectedWork } from './expected-work.js';
import { Handshakes } from './handshakes.js';
import { Heartbeat } from './heartbeat.js';
import { Lanes } from './lanes.js';
import type { LifecycleEvent } from './lifecycle-events.js';
import { LoopPhase } from './loop-phase.js';
import { Loop } from './loop.js';
import type { Notices } from './notices.js';
import type { OperationalEvents } from './operational-events.js';
import { OneAtATime } from './one-at-a-time.js';
import { Recorder } from './recorder.js';
import { Releases } from './releases.js';
import { Rounds } from './rounds.js';
import { maxBatches, Router } from './router.js';
import { Sender } from './sender.js';
import { SendingSwitch } from './sending-switch.js';
import type { Signers } from './sign-delivery.js';
import type { TaskLoop } from './task-loop.js';
import { Troubles } from './troubles.js';
import type { Upkeep } from './upkeep.js';
import { WaitingListeners } from './waiting-listeners.js';
import type { WakeUps } from './wake-ups/wake-ups.js';
import { WorkSearch } from './work-search.js';

/** The row of the turns of the engine, among the chores. */
const ENGINE_TURN = 'engine';

/** Dependencies of the dispatcher. */
export interface DispatcherParts {
  readonly database: Database;
  readonly clock: WebhookClock;
  readonly time: DatabaseTime;
  readonly options: ResolvedWebhooksOptions['dispatcher'];
  readonly transport: WebhookTransport;
  readonly retrySchedule: RetrySchedule;
  readonly signers: Signers;
  readonly bodyOf: BodyOf;
  readonly inFlight: InFlightDeliveries;
  readonly upkeep: Upkeep;
  readonly tasks: TaskLoop;
  readonly images: ImageConverter;
  readonly logger: LoggerService;
  readonly emit: (name: string, lifecycleEvent: LifecycleEvent, cause?: Cause) => void;
  readonly notices: Notices;
  readonly diagnostics: Diagnostics;
  readonly attemptLog: AttemptLog;
  readonly details: AttemptDetails;
  readonly operational: OperationalEvents;
  /** `null` if the processes cannot notify each other. */
  readonly wakeUps: WakeUps | null;
  /** Equal for the processes that use the same tables. */
  readonly tablesKey: string;
}

/** Builds the parts of a dispatcher, and connects them. */
export function assembleDispatcher(parts: DispatcherParts) {
  const { database, options, logger } = parts;
  const { concurrency, concurrencyPerListener, concurrencyPerOwner, eventsPerBatch, maxAgeMs, pollIntervalMs } =
    options;
  const phase = new LoopPhase();
  const troubles = new Troubles(logger, parts.diagnostics);
  const waiting = new WaitingListeners(logger);
  const authorized = new AuthorizedTransport({ ...parts, sealing: parts.signers.sealing });
  const lanes: Lanes = new Lanes({
    concurrency,
    concurrencyPerListener,
    concurrencyPerOwner,
    waiting: { fresh: 3 * eventsPerBatch, backlog: eventsPerBatch },
    send: (laned, free) => sender.attempt(laned, free),
    expired: (laned) => releases.add([laned]),
    hasRoomAgain: () => {
      expected.expectReady(0);
      expected.signal.raise();
    },
  });
  const engine: Engine | null = openEngine(parts, () => {
    expected.expectReady(0);
    expected.signal.raise();
  });
  const expected: ExpectedWork = new ExpectedWork({
    clock: parts.clock,
    lanes,
    pollIntervalMs,
    maxBatches: maxBatches(database, options.poolSize),
    engine,
  });
  const shared = { ...parts, lanes, troubles, waiting, authorized, phase, expected, engine, leases: new OneAtATime() };
  const releases: Releases = new Releases(shared);
  const sendingSwitch = new SendingSwitch({ ...shared, releases, maxAgeMs, pollIntervalMs });
  const heartbeat = new Heartbeat({ ...shared, concurrency });
  const stats = new AttemptStats(shared);
  const recorder = new Recorder({
    ...shared,
    stats,
    lastPause: () => sendingSwitch.lastPause,
    // Retry even while the dispatcher stops, until the time limit of `stop()`. If an attempt is not recorded, its request is sent again.
    keepsRunning: () => phase.isRunning,
    refused: () => lanes.pause(),
    written: () => lanes.resume(),
    expect: (at, listenerId) => expected.expectReady(at, [listenerId]),
    expectEvents: () => {
      expected.expectEvents();
      expected.signal.raise();
    },
    stopped: (listenerId) => releases.add(lanes.evict(listenerId)),
    idle: () => expected.signal.raise(),
  });
  const sender: Sender = new Sender({ ...shared, recorder, releases, sendingSwitch });
  const handshakes = new Handshakes({
    ...shared,
    transport: authorized,
    hideTiming: (began) => sender.hideTiming(began),
    expect: (at, listenerId) => {
      expected.expectReady(at, [listenerId]);
      expected.signal.raise();
    },
  });
  const claims = new Claims({ ...shared, handshakes, releases });
  const router = new Router({
    ...shared,
    routed: (batch) => {
      troubles.succeeded('claiming');
      claims.take(batch);
    },
  });
  const search = new WorkSearch({ ...shared, router, claims });
  const working = {
    ...shared,
    stats,
    sendingSwitch,
    heartbeat,
    recorder,
    releases,
    sender,
    handshakes,
    claims,
    router,
    search,
  };
  const rounds = new Rounds({ ...working, eventsPerBatch, pollIntervalMs, timeoutMs: options.timeoutMs });
  const loop = new Loop({ ...working, rounds, timeoutMs: options.timeoutMs });
  return { lanes, phase, expected, authorized, recorder, rounds, loop, sendingSwitch, stats, engine };
}

/** Makes the engine of the option `dispatcher.engine`. @param wake called when the engine has work, or is no longer available */
function openEngine(parts: DispatcherParts, wake: () => void): Engine | null {
  const { database, clock, logger, options, tablesKey } = parts;
  const host: EngineHost = {
    tablesKey,
    concurrency: options.concurrency,
    logger,
    now: () => clock.now(),
    readyAt: (ids) => database.single(() => readReadyAt(database, ids), 'work'),
    readyListeners: (page) => database.single(() => readReadyListeners(database, page), 'work'),
    takeTurn: (everyMs) =>
      database.transaction(() => takeTurn(database, ENGINE_TURN, { now: clock.now(), everyMs }), 'work'),
    wake,
  };
  return options.engine?.open(host) ?? null;
}
