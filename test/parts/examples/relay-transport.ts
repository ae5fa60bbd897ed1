import { Inject, Injectable } from '@nestjs/common';
import { WebhookTransport, type Outcome, type SignedRequest } from 'nestjs-entity-webhooks';

export const RELAY_URL = Symbol('RELAY_URL');

/** Sends each request to a relay at the edge of the network. The relay forwards it to `x-relay-to` and returns the answer. */
@Injectable()
export class RelayTransport extends WebhookTransport {
  constructor(@Inject(RELAY_URL) private readonly relay: string) {
    super();
  }

  async send({ url, headers, body, timeoutMs }: SignedRequest): Promise<Outcome> {
    const startedAt = performance.now();
    try {
      const response = await fetch(this.relay, {
        method: 'POST',
        headers: { ...headers, 'x-relay-to': url },
        body: new Uint8Array(body),
        redirect: 'manual',
        signal: AbortSignal.timeout(timeoutMs),
      });
      await response.body?.cancel();
      return outcome(response.ok ? 'accepted' : 'rejected', response.status, startedAt);
    } catch (error) {
      return { ...outcome('unreachable', null, startedAt), errorDetail: String(error) };
    }
  }
}

function outcome(kind: Outcome['kind'], status: number | null, startedAt: number): Outcome {
  const errorCode = kind === 'accepted' ? null : kind === 'rejected' ? 'HTTP_STATUS' : 'CONNECTION_FAILED';
  const durationMs = Math.round(performance.now() - startedAt);
  return { kind, status, errorCode, errorDetail: null, durationMs, response: null, retryAfterMs: null };
}
