import { channel, type Channel } from 'node:diagnostics_channel';
import type { TraceContext } from '../events/trace-context.js';
import type { JsonObject } from '../json.js';
import { WEBHOOKS_CHANNELS, type StepMessage, type WebhooksInstance, type WebhooksMessages } from './channels.js';

type ChannelName = keyof WebhooksMessages;

const CHANNELS = Object.fromEntries(
  Object.entries(WEBHOOKS_CHANNELS).map(([name, full]) => [name, channel(full)]),
) as unknown as Readonly<Record<ChannelName, Channel>>;

/** Publishes the messages of one instance. Not exported by the package, but other published types name it. */
export class Diagnostics {
  readonly instance: WebhooksInstance;
  /**
   * Begins and ends a span for a new event, and returns the trace context of the span. The trace context is stored
   * with the event. Outside a recorded trace the function returns `null`. The property is set while telemetry is
   * attached.
   */
  traceOf: ((type: string) => TraceContext | null) | null = null;

  constructor(name: string) {
    this.instance = Object.freeze({ name });
  }

  /** Whether a channel has a subscriber. Without a subscriber, nothing may be measured or allocated for a message. */
  listens(name: ChannelName): boolean {
    return CHANNELS[name].hasSubscribers;
  }

  publish<N extends ChannelName>(name: N, message: Omit<WebhooksMessages[N], 'instance'>): void {
    CHANNELS[name].publish(Object.assign({ instance: this.instance }, message));
  }

  /** @returns the trace to add to the context of a new event. A trace that the application gave is kept. */
  traceFor(type: string, context: JsonObject | null): TraceContext | null {
    if (!this.traceOf || context?.['traceparent'] !== undefined) return null;
    return this.traceOf(type);
  }

  /** Measures a step, if its channel has a subscriber. A failed step is not published. */
  async step<T>(step: StepMessage['step'], work: () => Promise<T>): Promise<T> {
    if (!this.listens('step')) return work();
    const began = performance.now();
    const result = await work();
    this.publish('step', { step, durationMs: performance.now() - began });
    return result;
  }
}
