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

/** How a path answers. @defaultValue 204, as soon as the body was read */
export interface PathBehavior {
  readonly answerMs: number;
  readonly status: number;
}
let behaviors: Readonly<Record<string, PathBehavior>> = {};

const server = createServer((request, response) => {
  if (request.url === silentPath) return;
  const key = `${request.url} ${String(request.headers['webhook-id'])}`;
  requests++;
  if (!arrivals.has(key)) arrivals.set(key, monotonicMs());
  // Read the body to the end, as every framework does, or the connection could not be reused.
  request.on('data', () => undefined);
  request.on('end', () => {
    if (dripMs === null) {
      const { answerMs, status } = behaviors[request.url ?? ''] ?? { answerMs: 0, status: 204 };
      const answer = () => response.writeHead(status).end();
      if (answerMs > 0) setTimeout(answer, answerMs);
      else answer();
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

/** From now on these paths answer like this, and all others with a 204. */
export function behave(paths: Readonly<Record<string, PathBehavior>>): void {
  behaviors = paths;
}

/** @returns the CPU time of this process, in microseconds */
export function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
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
