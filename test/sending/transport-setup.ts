import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net';

import type { InternalAxiosRequestConfig } from 'axios';
import { afterEach, expect } from 'vitest';

import {
  type ConnectionOptions,
  createWebhooksHttpService,
  HttpTransport,
  resolveSecurityOptions,
  type SecurityOptions,
  type SignedRequest,
  type WebhooksHttp,
} from '../../libs/webhooks/src/sending/index.js';
import { FakeClock, WebhookReceiver } from '../../libs/webhooks/src/testing/index.js';

export const LOOPBACK: SecurityOptions = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };
export const BODY = Buffer.from('{"type":"order.updated","data":{"id":7}}');
export const OK = 200;

/** Run after each test, the last first. */
export const cleanups: (() => Promise<unknown> | void)[] = [];
/** Open connections of the servers of this test. */
export const sockets = new Set<Socket>();

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await expect.poll(() => sockets.size, { message: 'every connection is closed again' }).toBe(0);
});

function track<S extends TcpServer | Server>(server: S): S {
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return server;
}

export async function listen(server: TcpServer | Server, host = '127.0.0.1'): Promise<number> {
  track(server).listen(0, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** An HTTP server; gives its URL. */
export async function http(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listen(createServer(listener))}/hooks`;
}

/** A server that speaks whatever the test says. */
export async function tcp(onSocket: (socket: Socket) => void): Promise<string> {
  return `http://127.0.0.1:${await listen(createTcpServer(onSocket))}/hooks`;
}

export async function receiver(): Promise<WebhookReceiver> {
  const started = await new WebhookReceiver().start();
  cleanups.push(() => started.stop());
  return started;
}

export function setup(
  security: SecurityOptions = LOOPBACK,
  connections: ConnectionOptions = {},
  clock = new FakeClock(),
): { transport: HttpTransport; webhooks: WebhooksHttp } {
  const webhooks = createWebhooksHttpService({ security: resolveSecurityOptions(security), ...connections });
  const transport = new HttpTransport(webhooks, { clock });
  cleanups.push(() => transport.close());
  return { transport, webhooks };
}

export function request(url: string, change: Partial<SignedRequest> = {}): SignedRequest {
  return { url, headers: { 'content-type': 'application/json' }, body: BODY, timeoutMs: 5000, ...change };
}

/** Makes the request take axios' pipeline without changing anything. */
export function intercept(
  webhooks: WebhooksHttp,
  change: (config: InternalAxiosRequestConfig) => unknown = () => undefined,
): void {
  webhooks.http.axiosRef.interceptors.request.use((config) => {
    change(config);
    return config;
  });
}

/** What holds for a request whichever way it takes. */
export const BOTH_WAYS = [
  ['straight through the adapter', (...args: Parameters<typeof setup>) => setup(...args).transport],
  [
    'through axios and an interceptor',
    (...args: Parameters<typeof setup>) => {
      const { transport, webhooks } = setup(...args);
      intercept(webhooks);
      return transport;
    },
  ],
] as const;
