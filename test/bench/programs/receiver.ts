import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

// An endpoint that answers 204 as soon as it has read the body, and counts. One process serves all listeners of a scenario,
// told apart by their paths.

/** What has been received since {@link reset}. */
export interface Received {
  readonly requests: number;
  /** Different pairs of path and `webhook-id`. */
  readonly unique: number;
}

const seen = new Set<string>();
let requests = 0;

const server = createServer((request, response) => {
  // Read to the end, as every framework does, or the connection could not be used again.
  request.on('data', () => undefined);
  request.on('end', () => {
    requests++;
    seen.add(`${request.url} ${String(request.headers['webhook-id'])}`);
    accept(response);
  });
});
server.keepAliveTimeout = 60_000;

function accept(response: ServerResponse): void {
  response.writeHead(204);
  response.end();
}

/** @returns its URL, without a path */
export async function listen(): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function received(): Received {
  return { requests, unique: seen.size };
}

export function reset(): void {
  requests = 0;
  seen.clear();
}
