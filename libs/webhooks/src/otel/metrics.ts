import type { Attributes, Meter } from '@opentelemetry/api';
import type {
  RecordedAttempt,
  AttemptsMessage,
  CapturedMessage,
  DamagedMessage,
  DisabledBy,
  DiscardedMessage,
  ListenerMessage,
  RoutedMessage,
  StepMessage,
  TroubleMessage,
  UpkeepMessage,
  WebhooksMessages,
} from '../diagnostics/channels.js';
import { CachedAttributes } from './cached-attributes.js';
import { createInstruments, type Instruments } from './instruments.js';

const MS_PER_SECOND = 1_000;

const DAMAGED_KINDS = ['event', 'image'] as const satisfies DamagedMessage['kind'][];
/** Final states whose counter has the event type. For discarded deliveries, the event type is not known. */
const FINAL_STATES = ['succeeded', 'exhausted'] as const;
const DISABLED_BY = ['attempts', 'handshake', 'application'] as const satisfies DisabledBy[];
const DATABASE_STEPS = [
  'claiming',
  'converting',
  'polling',
  'recording',
  'releasing',
  'upkeep',
  'measuring',
] as const satisfies TroubleMessage['work'][];

type Handlers = { readonly [Name in keyof WebhooksMessages]: (message: WebhooksMessages[Name]) => void };

/** Maps the messages of the channels to measurements. */
export class Metrics implements Handlers {
  private readonly instruments: Instruments;
  private readonly types: CachedAttributes;
  private readonly sources: CachedAttributes;
  private readonly outcomes: CachedAttributes;
  private readonly states: CachedAttributes;
  private readonly steps: CachedAttributes;

  constructor(
    meter: Meter,
    private readonly common: Attributes,
    private readonly wanted: { readonly owner: boolean; readonly listener: boolean },
  ) {
    this.instruments = createInstruments(meter);
    this.types = new CachedAttributes(common);
    this.sources = new CachedAttributes(common);
    this.outcomes = new CachedAttributes(common);
    this.states = new CachedAttributes(common);
    this.steps = new CachedAttributes(common);
    this.beginAtZero();
  }

  /**
   * Adds 0 to the counters at start. A counter that begins at 1 shows no increase, so Prometheus would miss the first
   * event that is counted.
   */
  private beginAtZero(): void {
    const { circuitOpened, damaged, databaseErrors, listenerDisabled } = this.instruments;
    circuitOpened.add(0, this.common);
    for (const kind of DAMAGED_KINDS) damaged.add(0, this.with({ 'webhooks.damaged.kind': kind }));
    for (const by of DISABLED_BY) listenerDisabled.add(0, this.with({ 'webhooks.reason': by }));
    for (const step of DATABASE_STEPS) databaseErrors.add(0, this.with({ 'webhooks.step': step }));
  }

  readonly captured = ({ events }: CapturedMessage): void => {
    const { payloadSize, payloadTruncated, events: counter } = this.instruments;
    for (const { type, source, payloadBytes, isTruncated } of events) {
      const ofSource = () => ({ 'webhooks.event.type': type, 'webhooks.source': source });
      counter.add(1, this.sources.of(`${source} ${type}`, ofSource));
      if (payloadBytes !== null) payloadSize.record(payloadBytes, this.ofType(type));
      if (isTruncated) payloadTruncated.add(1, this.ofType(type));
    }
  };

  readonly routed = ({ deliveries }: RoutedMessage): void => {
    for (const [type, count] of deliveries) {
      this.instruments.deliveriesCreated.add(count, this.ofType(type));
      // The first exhausted delivery must also be an increase; see `beginAtZero`.
      for (const state of FINAL_STATES) this.instruments.deliveriesFinished.add(0, this.ofState(state, type));
    }
  };

  readonly attempts = ({ attempts }: AttemptsMessage): void => {
    const { deliveriesFinished, stepDuration } = this.instruments;
    const finished = new Map<Attributes, number>();
    let signMs = 0;
    for (const attempt of attempts) {
      signMs += attempt.signMs ?? 0;
      this.attempt(attempt);
      const { state, type } = attempt;
      if (state !== 'succeeded' && state !== 'exhausted') continue;
      const set = this.ofState(state, type);
      finished.set(set, (finished.get(set) ?? 0) + 1);
    }
    // Add once for each batch, because the SDK takes a microsecond for each call.
    for (const [set, count] of finished) deliveriesFinished.add(count, set);
    stepDuration.record(signMs / attempts.length / MS_PER_SECOND, this.ofStep('sign'));
  };

  private attempt(attempt: RecordedAttempt): void {
    const { attemptDuration, deliveryWait, deliveryAge } = this.instruments;
    const { type, state, startedAt, durationMs, eventCreatedAt } = attempt;
    attemptDuration.record(durationMs / MS_PER_SECOND, this.ofOutcome(attempt));
    if (attempt.attempt === 1) deliveryWait.record(seconds(startedAt - eventCreatedAt), this.ofType(type));
    if (state === 'succeeded') deliveryAge.record(seconds(startedAt + durationMs - eventCreatedAt), this.ofType(type));
  }

  readonly discarded = ({ count, reason }: DiscardedMessage): void => {
    const { deliveriesFinished } = this.instruments;
    deliveriesFinished.add(count, this.with({ 'webhooks.delivery.state': 'discarded', 'webhooks.reason': reason }));
  };

  readonly listener = ({ change, by, owner, listenerId }: ListenerMessage): void => {
    const { circuitOpened, listenerDisabled } = this.instruments;
    const whose = this.with(this.whose(owner, listenerId));
    if (change === 'circuit_opened') circuitOpened.add(1, whose);
    // The attribute is not the reason of the message, because that reason is free text.
    if (change === 'disabled' && by !== null) listenerDisabled.add(1, { ...whose, 'webhooks.reason': by });
  };

  readonly damaged = ({ kind }: DamagedMessage): void => {
    this.instruments.damaged.add(1, this.with({ 'webhooks.damaged.kind': kind }));
  };

  readonly upkeep = ({ deleted }: UpkeepMessage): void => {
    const { upkeepDeleted } = this.instruments;
    if (deleted.events) upkeepDeleted.add(deleted.events, this.with({ 'webhooks.row': 'event' }));
    if (deleted.deliveries) upkeepDeleted.add(deleted.deliveries, this.with({ 'webhooks.row': 'delivery' }));
  };

  readonly trouble = ({ work }: TroubleMessage): void => {
    // `sending` fails because of the sockets of this machine, not because of the database.
    if (work !== 'sending') this.instruments.databaseErrors.add(1, this.with({ 'webhooks.step': work }));
  };

  readonly step = ({ step, durationMs }: StepMessage): void => {
    const { captureDuration, stepDuration } = this.instruments;
    if (step === 'capture') captureDuration.record(durationMs / MS_PER_SECOND, this.common);
    else stepDuration.record(durationMs / MS_PER_SECOND, this.ofStep(step));
  };

  private ofType(type: string): Attributes {
    return this.types.of(type, () => ({ 'webhooks.event.type': type }));
  }

  private ofState(state: (typeof FINAL_STATES)[number], type: string): Attributes {
    const make = () => ({ 'webhooks.event.type': type, 'webhooks.delivery.state': state });
    return this.states.of(`${state} ${type}`, make);
  }

  private ofStep(step: string): Attributes {
    return this.steps.of(step, () => ({ 'webhooks.step': step }));
  }

  private ofOutcome({ outcome, status, errorCode, type, owner, listenerId }: RecordedAttempt): Attributes {
    const { 'webhooks.owner': whose, 'webhooks.listener.id': listener } = this.whose(owner, listenerId);
    const key = `${outcome} ${status} ${errorCode} ${type} ${listener} ${whose}`;
    return this.outcomes.of(key, () => ({
      'webhooks.outcome': outcome,
      'error.type': outcome === 'accepted' ? null : errorType(status, errorCode),
      'http.response.status_code': status,
      'webhooks.event.type': type,
      'webhooks.owner': whose,
      'webhooks.listener.id': listener,
    }));
  }

  private whose(owner: string | null, listenerId: string) {
    const { wanted } = this;
    return {
      'webhooks.owner': wanted.owner ? owner : null,
      'webhooks.listener.id': wanted.listener ? listenerId : null,
    };
  }

  /** Makes attributes without the cache, for rare messages. */
  private with(attributes: Readonly<Record<string, string | null>>): Attributes {
    const set: Attributes = { ...this.common };
    for (const [name, value] of Object.entries(attributes)) if (value !== null) set[name] = value;
    return set;
  }
}

/** The `error.type` of the conventions for HTTP: the status if there is a status, otherwise the code of the error. */
export function errorType(status: number | null, errorCode: string | null): string {
  return status === null ? (errorCode ?? '_OTHER') : String(status);
}

/** Converts to seconds. The clocks of processes differ a little, so a negative time counts as 0. */
function seconds(ms: number): number {
  return Math.max(0, ms) / MS_PER_SECOND;
}
