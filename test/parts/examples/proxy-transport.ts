import { Inject, Injectable } from '@nestjs/common';
import { Transport, type Outcome, type SignedRequest } from 'nestjs-entity-webhooks';
import { ProxyAgent, request as send } from 'undici';

export const PROXY_URL = Symbol('PROXY_URL');

/** Sends everything through a forward proxy, which decides what may be reached. */
@Injectable()
export class ProxyTransport extends Transport {
  private readonly proxy: ProxyAgent;

  constructor(@Inject(PROXY_URL) url: string) {
    super();
    this.proxy = new ProxyAgent(url);
  }

  async send({ url, headers, body, timeoutMs }: SignedRequest): Promise<Outcome> {
    const startedAt = performance.now();
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      // undici's request() follows no redirect.
      const answer = await send(url, { method: 'POST', headers, body, signal, dispatcher: this.proxy });
      await answer.body.dump({ limit: 4096, signal });
      const accepted = answer.statusCode >= 200 && answer.statusCode < 300;
      return outcome(accepted ? 'accepted' : 'rejected', answer.statusCode, startedAt);
    } catch (error) {
      return { ...outcome('unreachable', null, startedAt), errorDetail: String(error) };
    }
  }

  override close(): Promise<void> {
    return this.proxy.close();
  }
}

function outcome(kind: Outcome['kind'], status: number | null, startedAt: number): Outcome {
  const errorCode = kind === 'accepted' ? null : kind === 'rejected' ? 'HTTP_STATUS' : 'CONNECTION_FAILED';
  const durationMs = Math.round(performance.now() - startedAt);
  return { kind, status, errorCode, errorDetail: null, durationMs, response: null, retryAfterMs: null };
}
