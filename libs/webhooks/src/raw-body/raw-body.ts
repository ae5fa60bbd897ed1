import type { IncomingMessage } from 'node:http';
import { BadRequestException, PayloadTooLargeException } from '@nestjs/common';
import { ConfigurationError } from '../errors.js';

/** What Express's and Fastify's requests have in common here. */
export interface ReceivedRequest {
  readonly headers: IncomingMessage['headers'];
  /** As Nest's `rawBody: true`, or the application's own parser, sets it. */
  rawBody?: unknown;
  body?: unknown;
  /** Node's request, on Fastify; on Express the request itself is one. */
  readonly raw?: IncomingMessage;
}

/** @param module which of ours wants the bytes, and takes `rawBody: 'provided'` in its `forRoot` */
export function rawBodyMissing(module: string, found: string): ConfigurationError {
  return new ConfigurationError(
    'RAW_BODY_MISSING',
    `${module} compares bodies byte for byte, and ${found}: create the application with NestFactory.create(AppModule, { rawBody: true }) (on Fastify: create(AppModule, new FastifyAdapter(), { rawBody: true })). With a body parser of your own that keeps the bytes in request.rawBody, say ${module}.forRoot({ rawBody: 'provided' }).`,
  );
}

/**
 * The bytes of a request's body, wherever they are by now.
 *
 * @throws ConfigurationError `RAW_BODY_MISSING` when something has read them and kept only what it made of them
 */
export async function rawBodyOf(request: ReceivedRequest, limitBytes: number, module: string): Promise<Buffer> {
  for (const candidate of [request.rawBody, request.body]) {
    const bytes = asBytes(candidate);
    if (bytes && bytes.length > limitBytes) throw new PayloadTooLargeException();
    if (bytes) return bytes;
  }
  const message = request.raw ?? (request as unknown as IncomingMessage);
  if (!message.readableDidRead) return readBody(message, limitBytes);
  if (isEmpty(message)) return Buffer.alloc(0);
  throw rawBodyMissing(module, 'the body of this request was parsed without keeping its bytes');
}

/**
 * Reads a request to its end.
 *
 * @throws PayloadTooLargeException above the limit; BadRequestException when the sender goes away
 */
export function readBody(message: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const finish = (error: Error | null) => {
      message.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      if (!error) return resolve(Buffer.concat(chunks, length));
      // What else comes is thrown away, so that the sender gets to reading the answer.
      message.on('error', () => undefined).resume();
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > limitBytes) finish(new PayloadTooLargeException());
      else chunks.push(chunk);
    };
    const onEnd = () => finish(null);
    const onClose = () => finish(new BadRequestException('The request ended before its body did.'));
    if (Number(message.headers['content-length']) > limitBytes) return finish(new PayloadTooLargeException());
    message.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
  });
}

function asBytes(body: unknown): Buffer | null {
  if (typeof body === 'string') return Buffer.from(body, 'utf8');
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : null;
}

function isEmpty({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) === 0;
}
