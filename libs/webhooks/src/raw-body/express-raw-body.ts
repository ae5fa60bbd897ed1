import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { readBody, type ReceivedRequest } from './raw-body.js';

type Next = (error?: unknown) => void;
type Handle = (request: IncomingMessage & ReceivedRequest, response: ServerResponse, next: Next) => void;

/** The part of an Express 5 application that is used here; Nest's own adapter reads the same stack. */
export interface ExpressApplication {
  use(handle: Handle): unknown;
  readonly router?: { readonly stack?: { readonly handle?: Handle }[] };
}

/** How long a parser gets for two bytes that are there already. */
const PROBE_MS = 1_000;

/**
 * Whether the JSON parser of the application keeps raw bodies, found out by giving it a request: it looks the same
 * either way, whoever registered it. `null` when there is none.
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
 * Reads the bodies of some requests before any parser can refuse them: Express's stop at 100 KB, at JSON with one byte
 * changed, and leave types that they do not know unread.
 */
export function readRawOnExpress(
  app: ExpressApplication,
  isOurs: (request: IncomingMessage) => boolean,
  limit: number,
): void {
  const readRaw: Handle = (request, _response, next) => {
    // A gateway that read it already keeps the bytes there; what is compressed is the parsers' to unpack.
    if (request.rawBody !== undefined || request.readableDidRead || !isPlain(request) || !isOurs(request))
      return next();
    readBody(request, limit).then((bytes) => {
      request.rawBody = bytes;
      // For body-parser 1; the one of Express 5 sees that the stream has ended.
      Object.assign(request, { _body: true });
      next();
    }, next);
  };
  app.use(readRaw);
  const stack = app.router?.stack;
  const own = stack?.findIndex((layer) => layer.handle === readRaw) ?? -1;
  // Without a stack to move it in, it stands after the parsers and finds their rawBody there.
  if (stack && own > 0) stack.unshift(...stack.splice(own, 1));
}

function isPlain({ headers }: IncomingMessage): boolean {
  return (headers['content-encoding'] ?? 'identity').toLowerCase() === 'identity';
}
