import { EventEmitter, once } from 'node:events';
import { Injectable, NotFoundException } from '@nestjs/common';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

/** The body of a webhook, in the format of Standard Webhooks and this library. */
interface WebhookBody {
  readonly type: string;
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly previous?: Readonly<Record<string, unknown>>;
}

/** One request, and the answer of the receiver. */
export interface Received {
  readonly endpoint: string;
  /** The header `webhook-id`. The id is the same for each attempt. So receivers can use the id to process an event only once. */
  readonly id: string;
  /** How many requests with this id the endpoint has received, including this one. */
  readonly attempt: number;
  readonly status: 200 | 401 | 500;
  readonly verdict: 'verified' | 'forged' | 'down';
  /** The body. `null` if the signature is invalid, because such a body cannot be trusted. */
  readonly body: WebhookBody | null;
}

interface Endpoint {
  readonly webhook: Webhook;
  failuresLeft: number;
}

/** Endpoints that verify requests with the `standardwebhooks` package, and record them. */
@Injectable()
export class ReceiverService {
  /** Every request so far, in order. */
  readonly received: Received[] = [];
  private readonly endpoints = new Map<string, Endpoint>();
  private readonly signal = new EventEmitter();

  /**
   * Opens an endpoint at `/receiver/<name>`, with the secret of its listener.
   *
   * @param failures how many requests the endpoint answers with 500 before it accepts webhooks
   */
  open(name: string, secret: string, failures = 0): void {
    this.endpoints.set(name, { webhook: new Webhook(secret), failuresLeft: failures });
  }

  receive(name: string, rawBody: Buffer, headers: Record<string, string>): Received {
    const endpoint = this.endpoints.get(name);
    if (!endpoint) throw new NotFoundException(`There is no receiver '${name}'.`);
    const id = headers['webhook-id'] ?? '';
    const attempt = 1 + this.received.filter((earlier) => earlier.endpoint === name && earlier.id === id).length;
    const received = { endpoint: name, id, attempt, ...answer(endpoint, rawBody, headers) };
    this.received.push(received);
    this.signal.emit('received', received);
    return received;
  }

  /** Calls `listener` for each request. */
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

/** Does all checks that a receiver needs: the signature, and a timestamp that is not older than five minutes. */
function verify(webhook: Webhook, rawBody: Buffer, headers: Record<string, string>): WebhookBody | null {
  try {
    return webhook.verify(rawBody, headers) as WebhookBody;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return null;
    throw error;
  }
}
