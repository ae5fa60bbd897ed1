import type { HttpAdapterHost } from '@nestjs/core';
import type { DashboardFile } from './dashboard-files.js';
import type { Headers } from './page-headers.js';

/** The properties of a request that this file reads on Express and on Fastify. */
export interface FileRequest {
  readonly url: string;
  readonly originalUrl?: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

interface ExpressResponse {
  statusCode: number;
  removeHeader(name: string): unknown;
  end(bytes?: Buffer): unknown;
}

interface FastifyReply {
  code(status: number): FastifyReply;
  removeHeader(name: string): unknown;
  send(bytes?: Buffer): unknown;
}

/**
 * Sends bytes unchanged, and keeps the headers that helmet and CORS have already set. The adapters' own `reply()` would turn bytes into
 * JSON, or read them as a stream.
 */
export function sendFile(
  { httpAdapter }: HttpAdapterHost,
  { headers: asked }: FileRequest,
  response: object,
  { file, headers }: { readonly file: DashboardFile; readonly headers: Headers },
): void {
  const { bytes, encoding } = encoded(file, String(asked['accept-encoding'] ?? ''));
  const isKnown = String(asked['if-none-match'] ?? '').includes(file.etag);
  const all: Record<string, string> = { ...headers, ETag: file.etag, Vary: 'Accept-Encoding' };
  if (!isKnown) {
    all['Content-Type'] = file.type;
    all['Content-Length'] = String(bytes.length);
    if (encoding !== undefined) all['Content-Encoding'] = encoding;
  }
  // Helmet sets this header, which forbids frames of all other origins. `frame-ancestors` lists the allowed origins.
  if (!('X-Frame-Options' in headers)) (response as ExpressResponse).removeHeader('X-Frame-Options');
  for (const [name, value] of Object.entries(all)) httpAdapter.setHeader(response, name, value);
  answer(response, isKnown ? 304 : 200, isKnown ? undefined : bytes);
}

/** Redirects a path with a slash at the end, because a browser would resolve the page's relative URLs in the wrong folder. */
export function redirect({ httpAdapter }: HttpAdapterHost, response: object, location: string): void {
  httpAdapter.setHeader(response, 'Location', location);
  answer(response, 302);
}

/** Sends bytes or an empty body, without conversion by the framework. */
export function answer(response: object, status: number, bytes?: Buffer): void {
  if ('code' in response) {
    (response as FastifyReply).code(status).send(bytes);
    return;
  }
  const express = response as ExpressResponse;
  express.statusCode = status;
  express.end(bytes);
}

/** Chooses the compression of a file, which the build has compressed. It ignores `q=0`, which no browser sends. */
function encoded({ bytes, br, gzip }: DashboardFile, accepted: string): { bytes: Buffer; encoding?: string } {
  if (br && /\bbr\b/.test(accepted)) return { bytes: br, encoding: 'br' };
  if (gzip && /\bgzip\b/.test(accepted)) return { bytes: gzip, encoding: 'gzip' };
  return { bytes };
}
