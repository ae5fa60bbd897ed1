import type { ReadScope } from '../store/queue/changed-deliveries.js';
import type { Capability, Principal } from './access.js';

/** One change that a stream sends. */
export interface StreamChange {
  /** The same in every process and after every restart. A reader drops a change whose id it has seen. */
  readonly id: string;
  /** The place of the change in its source: see {@link StreamSource.last}. */
  readonly position: number;
  /** When it happened, in ms since 1970. */
  readonly at: number;
  /** Compared exactly: an owner gets only their own changes. */
  readonly owner: string | null;
  /** `null`: the change is of no listener, and a reader who asks for one listener does not get it. */
  readonly listenerId: string | null;
  /** Only for these principals; `undefined`: for both. */
  readonly audience?: Principal['kind'];
  /** The event type; `null`: the change is of no event, and no filter by type hides it. */
  readonly type: string | null;
  /** What is sent, besides the id. Operators see more than owners. */
  readonly dataFor: (kind: Principal['kind']) => Readonly<Record<string, unknown>>;
}

/** The changes after one position, up to and including another one. */
export interface StreamRange {
  readonly after: number;
  readonly upTo: number;
}

/**
 * Where changes come from. Positions are sequences or times. Neither is committed in order: a transaction may commit after another one
 * with a larger position. So each poll reads again what the last 10 s have brought, and drops what it has seen.
 */
export interface StreamSource {
  /** In cursors. It never changes. */
  readonly key: string;
  /** The name of the event in the stream. */
  readonly event: StreamEventName;
  /** Who does not have it gets none of these events. */
  readonly capability: Capability;
  /** How many positions a poll reads again: at least, and at most. */
  readonly overlap: readonly [least: number, most: number];
  /** How far before the last position a process that polled nothing yet begins. */
  readonly beginsBefore: number;
  /** How many positions one statement passes. */
  readonly step: number;
  /** A reader that is further behind gets `reset` instead of what it missed. */
  readonly farthest: number;
  /** The last position now. */
  readonly last: () => Promise<number>;
  /** @returns in the order of their positions; `null`: too many to read */
  readonly read: (scopes: readonly ReadScope[], range: StreamRange) => Promise<readonly StreamChange[] | null>;
}

type StreamEventName = 'delivery' | 'listener' | 'task' | 'overview';
