/**
 * Stored states, and the states that may follow each. `new` is no state: it leads to the states in which rows are
 * created. `docs/states.md` draws these tables, and a test compares them with the drawing and with what the database sees.
 */
type Transitions = Readonly<Record<string, readonly string[]>>;

/** An event in the outbox. It is `routing` while a wide event (more than 1,000 listeners) is routed page by page. */
export const EVENT_TRANSITIONS = {
  new: ['pending'],
  pending: ['routing', 'routed', 'damaged'],
  routing: ['routed', 'damaged'],
  routed: [],
  damaged: [],
} as const satisfies Transitions;

/** A delivery. The state `held` is not stored: it is a `due` delivery whose listener is not active. */
export const DELIVERY_TRANSITIONS = {
  new: ['due', 'leased', 'discarded'],
  due: ['leased', 'discarded'],
  leased: ['succeeded', 'due', 'exhausted'],
  succeeded: ['due'],
  exhausted: ['due'],
  discarded: ['due'],
} as const satisfies Transitions;

/** A listener. */
export const LISTENER_TRANSITIONS = {
  new: ['active', 'pending'],
  active: ['pending', 'disabled'],
  pending: ['active', 'disabled'],
  disabled: ['active', 'pending'],
} as const satisfies Transitions;

/** The circuit of a listener, which `circuit.ts` derives from its failures and its pause. */
export const CIRCUIT_TRANSITIONS = {
  new: ['closed'],
  closed: ['open'],
  open: ['closed', 'probing'],
  probing: ['open', 'closed'],
} as const satisfies Transitions;

/** The state of a delivery after an attempt. */
export type StateAfterAttempt = (typeof DELIVERY_TRANSITIONS)['leased'][number];
