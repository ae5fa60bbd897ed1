import type { ReadScope } from '../store/queue/changed-deliveries.js';
import type { Capability, Principal } from './access.js';

/** One change that a stream sends. */
export interface StreamChange {
  /** The id is the same in every process and after every restart. A client drops a change whose id it has seen. */
  readonly id: string;
  /** The place of the change in its source: see {@link StreamSource.last}. */
  readonly position: number;
  /** When it happened, in ms since 1970. */
  readonly at: number;
  /** An owner gets only changes with exactly this owner. */
  readonly owner: string | null;
  /** `null`: the change concerns no listener, so a reader of a single listener does not get it. */
  readonly listenerId: string | null;
  /** Only this kind of principal gets the change; `undefined`: both kinds. */
  readonly audience?: Principal['kind'];
  /** The event type; `null`: the change concerns no event, so a filter by type does not exclude it. */
  readonly type: string | null;
  /** Returns the data that is sent with the id. Operators see more than owners. */
  readonly dataFor: (kind: Principal['kind']) => Readonly<Record<string, unknown>>;
}

/** Changes after one position, up to and including another position. */
export interface StreamRange {
  readonly after: number;
  readonly upTo: number;
}

/**
 * One kind of change, and how to read it. Positions are sequences or times. Transactions do not commit in the order of their positions, so
 * each poll reads the changes of the last 10 s again and drops those that it has already sent.
 */
export interface StreamSource {
  /** Names the source in cursors, so it must never change. */
  readonly key: string;
  /** The name of the event in the stream. */
  readonly event: StreamEventName;
  /** A principal without this capability gets no event of this source. */
  readonly capability: Capability;
  /** The minimum and the maximum number of positions that a poll reads again. */
  readonly overlap: readonly [least: number, most: number];
  /** How far before the last position the first poll of a process begins. */
  readonly beginsBefore: number;
  /** The number of positions that one statement covers. */
  readonly step: number;
  /** A reader that is further behind than this gets `reset` instead of the missed changes. */
  readonly farthest: number;
  /** Reads the last position. */
  readonly last: () => Promise<number>;
  /** @returns in the order of their positions; `null`: too many to read */
  readonly read: (scopes: readonly ReadScope[], range: StreamRange) => Promise<readonly StreamChange[] | null>;
}

type StreamEventName = 'delivery' | 'listener' | 'task' | 'overview';
