/**
 * The states of rows, and the states that may follow each. `new` is no state: it leads to the states in which rows are
 * created. `docs/states.md` draws these tables, and a test compares them with the drawing and with what the database sees.
 */
type Transitions = Readonly<Record<string, readonly string[]>>;

/** An event. Its state is derived from the tables `outbox` and `damaged`. */
export const EVENT_TRANSITIONS = {
  new: ['pending'],
  pending: ['in_flight', 'delivered', 'damaged'],
  in_flight: ['delivered', 'damaged'],
  delivered: [],
  damaged: ['pending'],
} as const satisfies Transitions;

/** A delivery, as stored. The state `held` is not stored: it is a `due` delivery whose listener is not active. */
export const DELIVERY_TRANSITIONS = {
  new: ['succeeded', 'due', 'exhausted', 'leased', 'discarded'],
  due: ['leased', 'discarded'],
  leased: ['succeeded', 'due', 'exhausted', 'discarded'],
  succeeded: ['due'],
  exhausted: ['due'],
  discarded: ['due'],
} as const satisfies Transitions;

/** The states of a task. */
export const TASK_TRANSITIONS = {
  new: ['queued'],
  queued: ['running', 'cancelled'],
  running: ['done', 'failed', 'cancelled'],
  done: [],
  cancelled: [],
  failed: [],
} as const satisfies Transitions;

/** The states of a listener. */
export const LISTENER_TRANSITIONS = {
  new: ['active', 'pending'],
  active: ['pending', 'disabled'],
  pending: ['active', 'disabled'],
  disabled: ['active', 'pending'],
} as const satisfies Transitions;

/** The states of a listener's circuit. `circuit.ts` derives the state from the failures and the pause of the listener. */
export const CIRCUIT_TRANSITIONS = {
  new: ['closed'],
  closed: ['open'],
  open: ['closed', 'probing'],
  probing: ['open', 'closed'],
} as const satisfies Transitions;

/** The state of a delivery after an attempt. */
export type StateAfterAttempt = Exclude<(typeof DELIVERY_TRANSITIONS)['leased'][number], 'discarded'>;
