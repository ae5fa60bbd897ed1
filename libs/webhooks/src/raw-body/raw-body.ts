import type { IncomingMessage } from 'node:http';
import { BadRequestException, PayloadTooLargeException } from '@nestjs/common';
import { ConfigurationError } from '../errors.js';

/** The common part of Express and Fastify requests. */
export interface ReceivedRequest {
  readonly headers: IncomingMessage['headers'];
  /** The bytes of the body, as set by `rawBody: true` of Nest or by a parser of the application. */
  rawBody?: unknown;
  body?: unknown;
  /** The request object of Node.js, on Fastify. On Express, the request itself is the request object of Node.js. */
  readonly raw?: IncomingMessage;
}

/** @param module the module that needs the bytes; its `forRoot` accepts `rawBody: 'provided'` */
export function rawBodyMissing(module: string, found: string): ConfigurationError {
  return new ConfigurationError(
    'RAW_BODY_MISSING',
    `${module} needs the exact bytes of bodies, but ${found}. Create the application with NestFactory.create(AppModule, { rawBody: true }) (on Fastify: create(AppModule, new FastifyAdapter(), { rawBody: true })). If your own body parser keeps the bytes in request.rawBody, use ${module}.forRoot({ rawBody: 'provided' }).`,
  );
}

/**
 * Returns the bytes of a request's body from `rawBody`, from `body`, or from the stream.
 *
 * @throws ConfigurationError `RAW_BODY_MISSING` when the stream was already read and the bytes of the body were not
 * kept
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
 * Reads the body of a request.
 *
 * @throws PayloadTooLargeException above the limit; BadRequestException when the sender closes the connection early
 */
export function readBody(message: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const finish = (error: Error | null) => {
      message.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      if (!error) return resolve(Buffer.concat(chunks, length));
      // Read and drop the remaining bytes. Otherwise the sender could not read the answer.
      message.on('error', () => undefined).resume();
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > limitBytes) finish(new PayloadTooLargeException());
      else chunks.push(chunk);
    };
    const onEnd = () => finish(null);
    const onClose = () => finish(new BadRequestException('The request ended before its body was complete.'));
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
