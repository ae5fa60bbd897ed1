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
import { FakeClock, TestReceiver } from '../../libs/webhooks/src/testing/index.js';

export const LOOPBACK: SecurityOptions = { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true };
export const BODY = Buffer.from('{"type":"order.updated","data":{"id":7}}');
export const OK = 200;

/** Runs after each test, in reverse order. */
export const cleanups: (() => Promise<unknown> | void)[] = [];
/** Open connections of the servers of this test. */
export const sockets = new Set<Socket>();

/** Each suite calls this. A hook at the top of this file would exist in the first suite of a process only. */
export function cleanUpAfterEach(): void {
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    await expect.poll(() => sockets.size, { message: 'every connection is closed again' }).toBe(0);
  });
}

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

/** Starts an HTTP server and returns its URL. */
export async function http(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listen(createServer(listener))}/hooks`;
}

/** A TCP server that runs the handler of the test. */
export async function tcp(onSocket: (socket: Socket) => void): Promise<string> {
  return `http://127.0.0.1:${await listen(createTcpServer(onSocket))}/hooks`;
}

export async function receiver(): Promise<TestReceiver> {
  const started = await new TestReceiver().start();
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

/** Sends the request through the axios pipeline without a change. */
export function intercept(
  webhooks: WebhooksHttp,
  change: (config: InternalAxiosRequestConfig) => unknown = () => undefined,
): void {
  webhooks.http.axiosRef.interceptors.request.use((config) => {
    change(config);
    return config;
  });
}

/** Both paths of a request: direct, and through axios. */
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
