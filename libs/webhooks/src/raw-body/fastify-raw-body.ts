import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { ReceivedRequest } from './raw-body.js';

type Done = (error: Error | null, body?: unknown) => void;
type FastifyRequest = ReceivedRequest & { readonly raw: IncomingMessage };
type Parse = (request: FastifyRequest, body: Buffer | string, done: Done) => unknown;
type OnRequest = (request: FastifyRequest, reply: unknown, done: (error?: Error) => void) => unknown;

interface Route {
  readonly method: string | readonly string[];
  readonly url: string;
  onRequest?: OnRequest | OnRequest[];
}

/** The part of a Fastify instance that this file uses. */
export interface FastifyApplication {
  addContentTypeParser(type: string, options: { parseAs: 'buffer'; bodyLimit: number }, parse: Parse): unknown;
  addHook(name: 'onRoute', hook: (route: Route) => void): unknown;
}

/**
 * Whether the JSON parser of the application keeps raw bodies. The function runs the parser to find out. `null` when there is
 * no JSON parser, or when this version of Fastify stores its parsers in another place. In that case, the first request shows
 * whether raw bodies are kept.
 */
export async function fastifyKeepsRawBodies(app: FastifyApplication): Promise<boolean | null> {
  const symbol = Object.getOwnPropertySymbols(app).find((s) => s.description === 'fastify.contentTypeParser');
  const parsers = symbol && (app as unknown as Record<symbol, { getParser?(type: string): unknown }>)[symbol];
  const parser = parsers?.getParser?.('application/json') as { asString?: boolean; fn?: Parse } | undefined;
  if (typeof parser?.fn !== 'function') return null;
  const probe = { headers: { 'content-type': 'application/json' } } as unknown as FastifyRequest;
  try {
    // The parser sets rawBody before it parses, so a parse error does not matter.
    await parser.fn(probe, parser.asString ? '{}' : Buffer.from('{}'), () => undefined);
  } catch {
    // The parser needs more of a request than the probe has.
  }
  return Buffer.isBuffer(probe.rawBody);
}

/**
 * Reads the bodies of some routes as bytes, for every content type. By default, Fastify answers 415 for a content type
 * without a parser, and 400 for invalid JSON. The routes get a separate content type with a separate parser.
 */
export function readRawOnFastify(app: FastifyApplication, wantsRawBody: (url: string) => boolean, limit: number): void {
  const type = `application/x-returned-webhook-${randomBytes(8).toString('hex')}`;
  app.addContentTypeParser(type, { parseAs: 'buffer', bodyLimit: limit }, (request, body, done) => {
    request.rawBody = body;
    done(null, undefined);
  });
  const asBytes: OnRequest = (request, _reply, done) => {
    request.raw.headers['content-type'] = type;
    done();
  };
  app.addHook('onRoute', (route) => {
    if (![route.method].flat().includes('POST') || !wantsRawBody(route.url)) return;
    route.onRequest = [route.onRequest ?? []].flat().concat(asBytes);
  });
}
