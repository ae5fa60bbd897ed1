import { channel } from 'node:diagnostics_channel';

/**
 * Name of the channel of `node:diagnostics_channel` for received webhooks. The channel has an {@link
 * IncomingWebhookReceived} for each request that `@VerifyIncomingWebhook()` checked, and for each webhook whose
 * id was already in the inbox.
 */
export const INCOMING_WEBHOOKS_CHANNEL = 'nestjs-entity-webhooks:received';

/** A request was checked, or a webhook was found in the inbox. */
export interface IncomingWebhookReceived {
  /** Name of the source, as in the options of `IncomingWebhooksModule`. */
  readonly source: string;
  /**
   * `verified`: the request is a genuine webhook. `rejected`: it is not. `duplicate`: a verified webhook was already
   * processed before.
   */
  readonly result: 'verified' | 'rejected' | 'duplicate';
}

const received = channel(INCOMING_WEBHOOKS_CHANNEL);

/** Name of the channel for webhooks whose handler is about to run. Each has an {@link IncomingWebhookProcessing}. */
export const INCOMING_WEBHOOK_PROCESSING_CHANNEL = 'nestjs-entity-webhooks:processing';

/** A handler is about to run. A subscriber may replace the two functions, and must call those that it replaces. */
export interface IncomingWebhookProcessing {
  readonly source: string;
  readonly id: string;
  /** `null`: the body has none. */
  readonly type: string | null;
  /** The names of the headers are in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Runs the handler. */
  run: <T>(handler: () => T) => T;
  /** Called when the handler has ended. @param error why it failed */
  ended: (error?: unknown) => void;
}

const processing = channel(INCOMING_WEBHOOK_PROCESSING_CHANNEL);

/** Publishes that a handler is about to run; `null` without a subscriber. @internal */
export function publishProcessing(
  webhook: Pick<IncomingWebhookProcessing, 'source' | 'id' | 'type' | 'headers'>,
): IncomingWebhookProcessing | null {
  if (!processing.hasSubscribers) return null;
  const { source, id, type, headers } = webhook;
  const message: IncomingWebhookProcessing = { source, id, type, headers, run: (handler) => handler(), ended() {} };
  processing.publish(message);
  return message;
}

/** Publishes a result, but only while the channel has a subscriber. @internal */
export function publishReceived(source: string, result: IncomingWebhookReceived['result']): void {
  if (received.hasSubscribers) received.publish({ source, result } satisfies IncomingWebhookReceived);
}
