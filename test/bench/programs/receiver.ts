import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monotonicMs } from '../measure.js';

// An endpoint that answers 204 as soon as it has read the body, and counts requests. One process serves all listeners
// of a scenario, which differ by their paths.

/** Requests received since {@link reset}. */
export interface Received {
  readonly requests: number;
  /** Different pairs of path and `webhook-id`. */
  readonly unique: number;
}

/** When each pair of path and `webhook-id` was first received, by {@link monotonicMs}. */
const arrivals = new Map<string, number>();
let requests = 0;
let silentPath: string | null = null;
let dripMs: number | null = null;

const server = createServer((request, response) => {
  if (request.url === silentPath) return;
  const key = `${request.url} ${String(request.headers['webhook-id'])}`;
  requests++;
  if (!arrivals.has(key)) arrivals.set(key, monotonicMs());
  // Read the body to the end, as every framework does, or the connection could not be reused.
  request.on('data', () => undefined);
  request.on('end', () => {
    if (dripMs === null) {
      response.writeHead(204);
      response.end();
      return;
    }
    response.writeHead(200);
    response.flushHeaders();
    const drip = setInterval(() => response.write('.'), dripMs);
    response.on('close', () => clearInterval(drip));
  });
});
server.keepAliveTimeout = 60_000;

/** @param silent requests to this path are neither answered nor counted @returns its URL, without a path */
export async function listen(silent: string | null = null): Promise<string> {
  silentPath = silent;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** From now on every response is a 200 whose body sends one byte each `ms`, without end. */
export function drip(ms: number): void {
  dripMs = ms;
}

export function received(): Received {
  return { requests, unique: arrivals.size };
}

/**
 * When these requests were received; `null` for requests that were not. @param keys a path, a space and a
 * `webhook-id` each
 */
export function arrivedAt(keys: readonly string[]): (number | null)[] {
  return keys.map((key) => arrivals.get(key) ?? null);
}

export function reset(): void {
  requests = 0;
  arrivals.clear();
}
