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
import { Lanes, type LanesOptions } from './lanes.js';
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
  const { eventsPerBatch, maxAgeMs, pollIntervalMs, timeoutMs, concurrency } = parts.options;
  const shared = assembleShared(parts, {
    send: (laned, free) => sender.attempt(laned, free),
    expired: (laned) => releases.add([laned]),
  });
  const { lanes, phase, expected, authorized, engine } = shared;
  const releases: Releases = new Releases(shared);
  const sendingSwitch = new SendingSwitch({ ...shared, releases, maxAgeMs, pollIntervalMs });
  const heartbeat = new Heartbeat({ ...shared, concurrency });
  const stats = new AttemptStats(shared);
  const recorder = assembleRecorder({ ...shared, stats, releases, sendingSwitch });
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
  const router = assembleRouter(shared, claims);
  const search = new WorkSearch({ ...shared, router, claims });
  const working = {
    ...shared,
    ...{ stats, sendingSwitch, heartbeat, recorder, releases, sender, handshakes, claims, router, search },
  };
  const rounds = new Rounds({ ...working, eventsPerBatch, pollIntervalMs, timeoutMs });
  const loop = new Loop({ ...working, rounds, timeoutMs });
  return { lanes, phase, expected, authorized, recorder, rounds, loop, sendingSwitch, stats, engine };
}

type Shared = ReturnType<typeof assembleShared>;

/** The parts that most of the other parts need. @param calls what the lanes call in parts that are made later */
function assembleShared(parts: DispatcherParts, calls: Pick<LanesOptions, 'send' | 'expired'>) {
  const { database, options, logger } = parts;
  const { concurrency, concurrencyPerListener, concurrencyPerOwner, eventsPerBatch, pollIntervalMs } = options;
  const wake = () => {
    expected.expectReady(0);
    expected.signal.raise();
  };
  const lanes = new Lanes({
    ...{ concurrency, concurrencyPerListener, concurrencyPerOwner, ...calls },
    waiting: { fresh: 3 * eventsPerBatch, backlog: eventsPerBatch },
    hasRoomAgain: wake,
  });
  const engine = openEngine(parts, wake);
  const expected: ExpectedWork = new ExpectedWork({
    ...{ clock: parts.clock, lanes, pollIntervalMs, engine },
    maxBatches: maxBatches(database, options.poolSize),
  });
  return {
    ...parts,
    ...{ lanes, expected, engine },
    phase: new LoopPhase(),
    troubles: new Troubles(logger, parts.diagnostics),
    waiting: new WaitingListeners(logger),
    authorized: new AuthorizedTransport({ ...parts, sealing: parts.signers.sealing }),
    leases: new OneAtATime(),
  };
}

function assembleRecorder(
  parts: Shared & { stats: AttemptStats; releases: Releases; sendingSwitch: SendingSwitch },
): Recorder {
  const { lanes, expected, phase, releases, sendingSwitch } = parts;
  return new Recorder({
    ...parts,
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
}

function assembleRouter(shared: Shared, claims: Claims): Router {
  return new Router({
    ...shared,
    routed: (batch) => {
      shared.troubles.succeeded('claiming');
      claims.take(batch);
    },
  });
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
