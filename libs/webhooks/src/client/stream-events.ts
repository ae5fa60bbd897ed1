import type { Attempt, Delivery } from '../deliveries/delivery.js';
import type { Listener } from '../listeners/listener.js';
import type { SystemOverview } from '../system/system-overview.js';
import type { ClientTask, InJson } from './operation-types.js';

/** What a stream has. */
export interface StreamFilter {
  /** Only of this listener. */
  listenerId?: string;
  /** Only deliveries of this event type, or of types such as `order.*`. */
  type?: string;
}

/** A new delivery, or an attempt of one. */
export interface StreamDelivery {
  /** Of the change. */
  readonly id: string;
  /** As it is now. */
  readonly delivery: InJson<Delivery>;
  /** The attempt that was just made, without the answer of the receiver; `null`: the delivery is new. */
  readonly attempt: InJson<Omit<Attempt, 'response'>> | null;
}

/** A listener was created, changed, enabled, disabled or removed. Read it for the rest. */
export interface StreamListener {
  /** Of the change. */
  readonly id: string;
  readonly listener: InJson<Pick<Listener, 'id' | 'owner' | 'state' | 'disabledReason' | 'revision' | 'updatedAt'>> & {
    readonly isRemoved: boolean;
  };
}

/** A task was created, made progress or ended. */
export interface StreamTask {
  /** Of the change. */
  readonly id: string;
  readonly task: ClientTask;
}

/** What is pending and what fails, every 10 seconds. Not with a `listenerId`. */
export interface StreamOverview {
  /** Of the change. */
  readonly id: string;
  readonly overview: InJson<SystemOverview>;
}

/** What {@link WebhooksStreams.stream} gives. */
export type StreamEvent =
  | { readonly event: 'delivery'; readonly data: StreamDelivery }
  | { readonly event: 'listener'; readonly data: StreamListener }
  | { readonly event: 'task'; readonly data: StreamTask }
  | { readonly event: 'overview'; readonly data: StreamOverview }
  /** More happened since this time than a stream sends. Read your lists again. */
  | { readonly event: 'reset'; readonly data: { readonly id: string; readonly since: string } };
