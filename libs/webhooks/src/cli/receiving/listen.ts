import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { matchesPattern } from '../../events/event-type.js';
import { oneLine } from '../../foreign-text.js';
import { challengeOf, permissionFor } from '../../receiver/challenge.js';
import type { IncomingWebhookSchemeName } from '../../receiver/incoming-webhook-schemes.js';
import { lowerCaseHeaders } from '../../receiver/verify-incoming-webhook.js';
import { pause } from '../../time.js';
import { colored, type ExitCode, type Terminal } from '../terminal/terminal.js';
import { diagnose, type Diagnosis } from './diagnose.js';
import { forward, type Forwarded } from './forward.js';

/** Options of {@link listen}. */
export interface ListenOptions {
  /** If the list is empty, nothing is verified. */
  readonly secrets: readonly string[];
  readonly scheme: IncomingWebhookSchemeName;
  readonly target: URL | null;
  readonly type?: string;
  readonly status: number;
  /** From 0 to 1. */
  readonly fail: number;
  readonly delay: number;
  readonly print: 'line' | 'full';
  readonly json?: boolean;
}

/** A request, complete. */
interface Arrived {
  readonly at: Date;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** `null` if the body has none. */
  readonly type: string | null;
  readonly data: unknown;
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

const TOLERANCE_SECONDS = 300;
/** The largest body that is read. A webhook of this library has at most 64 MiB. */
const MAX_BODY_BYTES = 64 * 1_024 * 1_024;

/** Receives webhooks on loopback until the process ends. @throws the error of the port */
export async function listen(port: number, options: ListenOptions, terminal: Terminal): Promise<ExitCode> {
  const server = createServer((request, response) => {
    receive(request, response, options, terminal).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const { port: chosen } = server.address() as AddressInfo;
  terminal.err(`Listening on http://127.0.0.1:${chosen}/. Press Ctrl-C to end.`);
  await once(server, 'close');
  return 0;
}

async function receive(
  incoming: IncomingMessage,
  response: ServerResponse,
  options: ListenOptions,
  terminal: Terminal,
): Promise<void> {
  const request = await read(incoming);
  const diagnosis = options.secrets.length ? await diagnosed(request, options) : null;
  const { type } = options;
  const isWanted = type === undefined || (request.type !== null && matchesPattern(type, request.type));
  const isGenuine = diagnosis?.isValid !== false;
  const canForward = isWanted && isGenuine && options.target !== null;
  const forwarded = canForward && options.target ? await forward(options.target, request) : null;
  if (options.delay > 0) await pause(options.delay);
  const answer = answerTo(request, { diagnosis, forwarded, options });
  response.writeHead(answer.status, { ...answer.headers }).end(answer.body);
  if (isWanted) report({ request, diagnosis, forwarded, answer }, options, terminal);
}

async function read(incoming: IncomingMessage): Promise<Arrived> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) throw new Error('the body is too large');
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  const { method = '', url = '', headers } = incoming;
  const { type, data } = parsed(body);
  return { at: new Date(), method, url, headers, body, type: typeof type === 'string' ? type : null, data };
}

function parsed(body: Buffer): { type?: unknown; data?: unknown } {
  try {
    return (JSON.parse(body.toString('utf8')) ?? {}) as { type?: unknown };
  } catch {
    return {};
  }
}

async function diagnosed({ method, headers, body }: Arrived, { secrets, scheme }: ListenOptions) {
  // The handshake of CloudEvents has no signature to verify.
  if (method === 'OPTIONS') return null;
  const lower = lowerCaseHeaders(headers);
  return diagnose({ headers: lower, body, secrets, scheme, now: Date.now(), toleranceSeconds: TOLERANCE_SECONDS });
}

/** Chooses the answer: the answer to a handshake, 400 for a forged request, the answer of the forward target, or a failure by `--fail`. */
function answerTo(
  request: Arrived,
  {
    diagnosis,
    forwarded,
    options,
  }: { diagnosis: Diagnosis | null; forwarded: Forwarded | null; options: ListenOptions },
): Answer {
  if (diagnosis?.isValid === false) return { status: 400, body: `${diagnosis.code}\n` };
  const permission = request.method === 'OPTIONS' ? permissionFor(request.headers, { origins: '*' }) : null;
  if (permission) return { status: 200, headers: permission };
  if (forwarded) return { status: forwarded.status ?? 502, body: forwarded.body };
  const challenge = challengeOf(request);
  if (challenge !== null) return { status: 200, body: challenge };
  return { status: Math.random() < options.fail ? 500 : options.status };
}

interface Received {
  readonly request: Arrived;
  readonly diagnosis: Diagnosis | null;
  readonly forwarded: Forwarded | null;
  readonly answer: Answer;
}

function report(received: Received, { target, json, print }: ListenOptions, terminal: Terminal): void {
  if (json) {
    terminal.out(JSON.stringify(jsonOf(received)));
    return;
  }
  const line = oneLine(lineOf(received, target));
  terminal.out(received.answer.status < 300 ? line : colored(terminal, 'red', line));
  if (print === 'full') for (const text of fullLines(received.request)) terminal.out(oneLine(text));
}

function jsonOf({ request, diagnosis, forwarded, answer }: Received) {
  const { at, method, url, headers, body, type } = request;
  const shown = forwarded && { ...forwarded, body: forwarded.body.toString('utf8') };
  const text = body.toString('utf8');
  return { at, method, url, headers, body: text, type, diagnosis, forwarded: shown, status: answer.status };
}

/** `12:04:31 order.updated evt_… verified -> POST localhost:3000/hooks 204 (12 ms)` */
function lineOf({ request, diagnosis, forwarded, answer }: Received, target: URL | null): string {
  const { at, method, url, headers, type } = request;
  const id = headers['webhook-id'] === undefined ? '' : ` ${String(headers['webhook-id'])}`;
  const verdict = diagnosis === null ? '' : diagnosis.isValid ? ' verified' : ` NOT VALID: ${diagnosis.message}`;
  const line = `${at.toTimeString().slice(0, 8)} ${type ?? `${method} ${url}`}${id}${verdict} ->`;
  if (!forwarded || !target) return `${line} ${answer.status}`;
  const result = forwarded.status ?? `failed: ${forwarded.error}`;
  return `${line} ${method} ${target.host}${target.pathname}${target.search} ${result} (${forwarded.durationMs} ms)`;
}

function fullLines({ method, url, headers, body }: Arrived): string[] {
  const lines = Object.entries(headers).map(([name, value]) => `  ${name}: ${String(value)}`);
  const text = body.toString('utf8').split('\n');
  return [`  ${method} ${url}`, ...lines, '', ...text.map((row) => `  ${row}`)];
}
