import type { Delivery, StreamedAttempt } from '../deliveries/delivery.js';
import type { Listener } from '../listeners/listener.js';
import type { SystemOverview } from '../system/system-overview.js';
import type { ClientTask, InJson, InShard } from './operation-types.js';

/** Selects the events of a stream. */
export interface StreamFilter {
  /** Only events about this listener. */
  listenerId?: string;
  /** Only deliveries of this event type, or of types such as `order.*`. */
  type?: string;
}

/** A delivery was created, or an attempt of it has ended. */
export interface StreamDelivery extends InShard {
  /** Id of the change. */
  readonly id: string;
  /** The delivery with its current state. */
  readonly delivery: InJson<Delivery>;
  /** The attempt that has just ended, without the answer of the receiver and the headers; `null` if the delivery is new. */
  readonly attempt: InJson<StreamedAttempt> | null;
}

/** A listener was created, changed, enabled, disabled or removed. Call `getListener()` for its other properties. */
export interface StreamListener extends InShard {
  /** Id of the change. */
  readonly id: string;
  readonly listener: InJson<Pick<Listener, 'id' | 'owner' | 'state' | 'disabledReason' | 'revision' | 'updatedAt'>> & {
    readonly isRemoved: boolean;
  };
}

/** A task was created, made progress or ended. */
export interface StreamTask extends InShard {
  /** Id of the change. */
  readonly id: string;
  readonly task: ClientTask;
}

/** The overview of pending work and failing listeners, every 10 seconds. A stream with a `listenerId` does not contain it. */
export interface StreamOverview {
  /** Id of the change. */
  readonly id: string;
  readonly overview: InJson<SystemOverview>;
}

/** An event that {@link WebhooksStreams.stream} yields. */
export type StreamEvent =
  | { readonly event: 'delivery'; readonly data: StreamDelivery }
  | { readonly event: 'listener'; readonly data: StreamListener }
  | { readonly event: 'task'; readonly data: StreamTask }
  | { readonly event: 'overview'; readonly data: StreamOverview }
  /** There were more changes since this time than a stream sends. Read your lists again. */
  | { readonly event: 'reset'; readonly data: { readonly id: string; readonly since: string } };
