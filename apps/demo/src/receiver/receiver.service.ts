import { EventEmitter, once } from 'node:events';
import { Injectable, NotFoundException } from '@nestjs/common';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

/** The body of a webhook, as Standard Webhooks and this library shape it. */
interface WebhookBody {
  readonly type: string;
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly previous?: Readonly<Record<string, unknown>>;
}

/** One request, and what the receiver made of it. */
export interface Received {
  readonly endpoint: string;
  /** `webhook-id`: the same for each attempt, so what a receiver uses to do things once. */
  readonly id: string;
  /** How often this endpoint has met this id, from 1. */
  readonly attempt: number;
  readonly status: 200 | 401 | 500;
  readonly verdict: 'verified' | 'forged' | 'down';
  /** `null` when the signature did not fit: nothing in it can be believed. */
  readonly body: WebhookBody | null;
}

interface Endpoint {
  readonly webhook: Webhook;
  failuresLeft: number;
}

/** Endpoints that verify what they receive with the `standardwebhooks` package, and remember it. */
@Injectable()
export class ReceiverService {
  /** Every request so far, in order. */
  readonly received: Received[] = [];
  private readonly endpoints = new Map<string, Endpoint>();
  private readonly signal = new EventEmitter();

  /**
   * An endpoint under `/receiver/<name>`, with the secret of its listener.
   *
   * @param failures requests that it first answers with 500
   */
  open(name: string, secret: string, failures = 0): void {
    this.endpoints.set(name, { webhook: new Webhook(secret), failuresLeft: failures });
  }

  receive(name: string, rawBody: Buffer, headers: Record<string, string>): Received {
    const endpoint = this.endpoints.get(name);
    if (!endpoint) throw new NotFoundException(`Nobody receives at ${name}.`);
    const id = headers['webhook-id'] ?? '';
    const attempt = 1 + this.received.filter((earlier) => earlier.endpoint === name && earlier.id === id).length;
    const received = { endpoint: name, id, attempt, ...answer(endpoint, rawBody, headers) };
    this.received.push(received);
    this.signal.emit('received', received);
    return received;
  }

  /** Calls back at each request. */
  onReceived(listener: (received: Received) => void): void {
    this.signal.on('received', listener);
  }

  /** Waits for requests until the condition holds. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await once(this.signal, 'received');
  }
}

function answer(
  endpoint: Endpoint,
  rawBody: Buffer,
  headers: Record<string, string>,
): Pick<Received, 'status' | 'verdict' | 'body'> {
  const body = verify(endpoint.webhook, rawBody, headers);
  if (!body) return { status: 401, verdict: 'forged', body };
  if (endpoint.failuresLeft > 0) {
    endpoint.failuresLeft -= 1;
    return { status: 500, verdict: 'down', body };
  }
  return { status: 200, verdict: 'verified', body };
}

/** All that a receiver must do: the signature, and a timestamp that is not older than five minutes. */
function verify(webhook: Webhook, rawBody: Buffer, headers: Record<string, string>): WebhookBody | null {
  try {
    return webhook.verify(rawBody, headers) as WebhookBody;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return null;
    throw error;
  }
}
