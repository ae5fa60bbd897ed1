import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { readBody, type ReceivedRequest } from './raw-body.js';

type Next = (error?: unknown) => void;
type Handle = (request: IncomingMessage & ReceivedRequest, response: ServerResponse, next: Next) => void;

/** The part of an Express 5 application that this file uses. The adapter of Nest reads the same stack. */
export interface ExpressApplication {
  use(handle: Handle): unknown;
  readonly router?: { readonly stack?: { readonly handle?: Handle }[] };
}

/**
 * How long the parser may take for the probe request. The body of this request has two bytes, and both are
 * available immediately.
 */
const PROBE_MS = 1_000;

/**
 * Whether the JSON parser of the application keeps raw bodies. A probe request tests the parser, because a parser of Nest and a parser of
 * the application look the same. `null` when there is no JSON parser.
 */
export async function expressKeepsRawBodies(app: ExpressApplication): Promise<boolean | null> {
  const parser = app.router?.stack?.find((layer) => layer.handle?.name === 'jsonParser')?.handle;
  if (!parser) return null;
  const probe = Object.assign(Readable.from([Buffer.from('{}')]), {
    method: 'POST',
    url: '/',
    headers: { 'content-type': 'application/json', 'content-length': '2' },
  }) as unknown as IncomingMessage & ReceivedRequest;
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([
    new Promise<void>((done) => parser(probe, {} as ServerResponse, () => done())),
    new Promise<void>((done) => {
      timer = setTimeout(done, PROBE_MS);
    }),
  ]);
  clearTimeout(timer);
  return Buffer.isBuffer(probe.rawBody);
}

/**
 * Reads the bodies of some requests before a parser can refuse these bodies. The parsers of Express refuse bodies above 100 KB and
 * invalid JSON. They do not read bodies of unknown content types.
 */
export function readRawOnExpress(
  app: ExpressApplication,
  wantsRawBody: (request: IncomingMessage) => boolean,
  limit: number,
): void {
  const readRaw: Handle = (request, _response, next) => {
    // Skip a body that a gateway has already read into `rawBody`. Also skip a compressed body, because the parsers
    // must unpack such a body.
    if (request.rawBody !== undefined || request.readableDidRead || !isPlain(request) || !wantsRawBody(request))
      return next();
    readBody(request, limit).then((bytes) => {
      request.rawBody = bytes;
      // body-parser 1 skips a request with `_body`. The body-parser of Express 5 sees that the stream has ended.
      Object.assign(request, { _body: true });
      next();
    }, next);
  };
  app.use(readRaw);
  const stack = app.router?.stack;
  const own = stack?.findIndex((layer) => layer.handle === readRaw) ?? -1;
  // If the stack is not accessible, this handler stays behind the parsers, and uses the `rawBody` that they set.
  if (stack && own > 0) stack.unshift(...stack.splice(own, 1));
}

function isPlain({ headers }: IncomingMessage): boolean {
  return (headers['content-encoding'] ?? 'identity').toLowerCase() === 'identity';
}
