import { isIP, type LookupFunction, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { buildConnector } from 'undici';
import type { AddressGuard } from './address-guard.js';
import type { AgentPolicy, TlsIdentity } from './connection-options.js';
import type { EgressProxy } from './egress-proxy.js';
import { InterimAnswers } from './interim-answers.js';
import { addressesOf, hostOf, listOf } from './lookup.js';
import { ConnectionTimer, type ConnectionPhases } from './phases.js';
import { resetUnanswered } from './reset-unanswered.js';
import { describeError, isGone, isOutOfSockets, isTlsError, SendError, toSendError } from './send-error.js';

/**
 * Maximum number of bytes of one answer. The limit counts all headers, the headers of 1xx answers, the part of
 * the body that is read, and the overhead of chunks.
 */
const MAX_ANSWER_BYTES = 512 * 1024;
const PIECE_BYTES = 4 * 1024;
/** Maximum number of addresses of a name that are tried through a proxy. */
const MAX_TUNNELS = 4;

/** An open connection to a receiver. `tcp` carries `socket`; both are the same object without TLS. */
interface OpenConnection {
  readonly socket: Socket;
  readonly tcp: Socket;
}

type Finish = (result: OpenConnection | Error) => void;

/** What was read from one connection. */
interface Answers {
  /** Whether any byte has arrived. */
  readonly hasAnswered: () => boolean;
  /** Whether a request was written, and no byte of its answer was read. */
  readonly isUnanswered: () => boolean;
}

/** Called when a connection has opened or failed. `proceed` reports the connection to undici. */
export type ConnectionEnd = (phases: ConnectionPhases, proceed: () => void) => void;

/** Opens connections that the guard allows, and limits their answers. */
export function guardedConnector(
  { guard, proxy, ended }: AgentPolicy & { readonly ended: ConnectionEnd },
  lookup: LookupFunction,
  timeout: number,
  tls: TlsIdentity = {},
): buildConnector.connector {
  const checked = guardedLookup(guard, lookup);
  const connect = buildConnector({
    ...tls,
    allowH2: false,
    timeout,
    lookup: checked,
    // Always verify certificates. NODE_TLS_REJECT_UNAUTHORIZED=0 may be set for another purpose, and would otherwise
    // also turn off the verification of receivers.
    rejectUnauthorized: true,
  } as buildConnector.BuildOptions);

  return (options, done) => {
    const timer = new ConnectionTimer();
    const isTls = options.protocol === 'https:';
    const finish: Finish = (result) => {
      if (result instanceof Error) {
        ended(timer.phases(isTls), () => done(result, null));
        return;
      }
      timer.opened();
      const { socket, tcp } = result;
      const { hasAnswered, isUnanswered } = limitAnswers(socket);
      if (socket instanceof TLSSocket) reportCertificateRefusals(socket, tls, hasAnswered);
      resetUnanswered(socket, tcp, isUnanswered);
      ended(timer.phases(isTls), () => done(null, socket));
    };
    const host = hostOf(options);
    if (isIP(host) !== 0 && !guard.isAllowed(host)) {
      finish(blocked(host));
    } else if (proxy === null) {
      connectDirectly(connect, guard, options, { finish, timer });
    } else {
      openTunnel(proxy, checked, options, timeout).then(
        (tunnel) => {
          timer.connected();
          connectOver(tunnel, connect, options, finish);
        },
        (error: unknown) => finish(toSendError(error)),
      );
    }
  };
}

/** Opens the TCP connection first. So a blocked address does not receive the first message of the TLS handshake. */
function connectDirectly(
  connect: buildConnector.connector,
  guard: AddressGuard,
  options: buildConnector.Options,
  { finish, timer }: { finish: Finish; timer: ConnectionTimer },
): void {
  const port = options.port || (options.protocol === 'https:' ? '443' : '80');
  const opened: buildConnector.Callback = (error, tcp) => {
    const refused = error ?? refusedPeer(guard, tcp);
    if (refused === null) {
      connectOver(tcp as Socket, connect, options, finish);
    } else {
      tcp?.destroy();
      finish(refused);
    }
  };
  // The function returns its socket, although its type does not show a return value.
  const socket = connect({ ...options, protocol: 'http:', port }, opened) as unknown as Socket | undefined;
  if (socket) timer.watch(socket);
}

/**
 * Passes the bytes of a receiver to undici in small pieces, and closes the connection when one answer is too long.
 *
 * undici limits headers, and this library limits the body. Neither of these limits covers the extensions of chunks. Endless extensions
 * would keep the event loop busy until the time limit. Pieces must be small, because undici (7.30) creates an error for each header
 * above the limit, until the end of the piece. In a piece of 64 KiB, tiny headers take 100 ms. In pieces of 4 KiB, they take 10 ms.
 *
 * @returns functions that report what was read from the receiver so far
 */
function limitAnswers(socket: Socket): Answers {
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
  let written = socket.bytesWritten;
  let taken = 0;
  let hasAnswered = false;
  const interim = new InterimAnswers();
  socket.read = (size?: number): Buffer | null => {
    // With a size, the stream implementation calls `read`.
    if (size !== undefined) return read(size);
    if (socket.destroyed) return null;
    if (socket.bytesWritten !== written) {
      // A new request was written, so a new answer begins.
      written = socket.bytesWritten;
      taken = 0;
      interim.sent();
    }
    if (taken > MAX_ANSWER_BYTES) {
      socket.destroy(new SendError('INVALID_RESPONSE', `the answer has more than ${MAX_ANSWER_BYTES} bytes`));
      return null;
    }
    const piece = socket.readableLength > PIECE_BYTES ? read(PIECE_BYTES) : read();
    taken += piece?.length ?? 0;
    if (piece) interim.pass(piece);
    hasAnswered ||= piece !== null;
    return piece;
  };
  return { hasAnswered: () => hasAnswered, isUnanswered: () => socket.bytesWritten !== written };
}

/**
 * Reports a refused or missing client certificate as `TLS_FAILED` instead of as a lost connection.
 *
 * In TLS 1.3, the client's handshake ends before the server checks the client's certificate. So a refusal arrives when the client expects
 * the answer. Some servers send an alert, but undici (7.30) then reports only that the connection closed. Other servers close the
 * connection without an alert. For example, the server of Node.js does this if it does not trust a certificate. A closed connection without
 * an alert counts as a refusal only if the server had requested a certificate.
 */
function reportCertificateRefusals(socket: TLSSocket, { cert }: TlsIdentity, hasAnswered: () => boolean): void {
  // The shared signature algorithms are set only when the server has requested a certificate.
  const wasCertificateRequested = socket.getSharedSigalgs().length > 0;
  let alert: Error | undefined;
  socket.prependListener('error', (error) => {
    if (isTlsError(error)) alert ??= error;
  });
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error?: Error) => {
    if (error === undefined || !isGone(error)) return destroy(error);
    if (alert !== undefined) return destroy(alert);
    if (hasAnswered() || !wasCertificateRequested) return destroy(error);
    const given = cert === undefined ? 'no certificate was sent' : 'it may have rejected the certificate';
    const detail = `${describeError(error)}, before any answer: the server asks for a client certificate, and ${given}`;
    return destroy(new SendError('TLS_FAILED', detail, { cause: error }));
  };
}

/** Opens a tunnel to a checked address. If the proxy resolves names, opens a tunnel to the name. */
async function openTunnel(
  proxy: EgressProxy,
  checked: LookupFunction,
  { hostname, port, protocol }: buildConnector.Options,
  timeout: number,
): Promise<Socket> {
  const host = hostOf({ hostname });
  const usesHostAsGiven = proxy.resolvesNames || isIP(host) !== 0;
  const until = performance.now() + timeout;
  const hosts = usesHostAsGiven ? [host] : (await addressesOf(checked, host)).map(({ address }) => address);
  const tried: unknown[] = [];
  // Try several addresses, as a direct connection does. A proxy without IPv6 refuses IPv6 addresses, but accepts the other
  // addresses.
  for (const each of hosts.slice(0, MAX_TUNNELS)) {
    const left = until - performance.now();
    if (left <= 0) break;
    try {
      return await proxy.connect(each, Number(port) || (protocol === 'https:' ? 443 : 80), Math.ceil(left));
    } catch (error) {
      tried.push(error);
    }
  }
  throw tried.at(-1) ?? new SendError('TIMEOUT', `no tunnel within ${timeout} ms`);
}

/** Starts TLS on an open connection, if the URL asks for TLS. */
function connectOver(
  tcp: Socket,
  connect: buildConnector.connector,
  options: buildConnector.Options,
  finish: Finish,
): void {
  if (options.protocol !== 'https:') {
    finish({ socket: tcp.setNoDelay(true), tcp });
    return;
  }
  const failed = (error: Error): void => {
    tcp.destroy();
    finish(tlsFailed(error));
  };
  try {
    // TLS sends the name in `options`, and the certificate must match that name.
    connect({ ...options, httpSocket: tcp }, (error, socket) => {
      if (error === null) finish({ socket, tcp });
      else failed(error);
    });
  } catch (error) {
    // The certificate or key of the identity cannot be parsed.
    failed(error as Error);
  }
}

function tlsFailed(error: Error): Error {
  const isTimeout = (error as NodeJS.ErrnoException).code === 'UND_ERR_CONNECT_TIMEOUT';
  if (error instanceof SendError || isTimeout) return error;
  return new SendError('TLS_FAILED', describeError(error), { cause: error });
}

function refusedPeer(guard: AddressGuard, socket: Socket): SendError | null {
  const address = socket.remoteAddress;
  if (address === undefined)
    return new SendError('CONNECTION_FAILED', 'the connection closed immediately after it opened');
  return guard.isAllowed(address) ? null : blocked(address);
}

function blocked(address: string, name?: string): SendError {
  return new SendError(
    'ADDRESS_BLOCKED',
    `${address}${name === undefined ? '' : ` (${name})`} is not a public address and not in security.allowedAddresses`,
  );
}

/** Wraps `lookup`. The wrapper asks for all addresses of a name, and fails if the guard refuses one of the addresses. */
export function guardedLookup(guard: AddressGuard, lookup: LookupFunction): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found, family) => {
      if (error !== null && error !== undefined) {
        const code = isOutOfSockets(error) ? 'OUT_OF_SOCKETS' : 'DNS_FAILED';
        callback(new SendError(code, describeError(error), { cause: error }), '');
        return;
      }
      const addresses = listOf(found, family);
      const refused = addresses.find(({ address }) => !guard.isAllowed(address));
      const [first] = addresses;
      if (refused !== undefined) {
        callback(blocked(refused.address, hostname), '');
      } else if (first === undefined) {
        callback(new SendError('DNS_FAILED', `${hostname} has no address`), '');
      } else if (options.all === true) {
        callback(null, [...addresses]);
      } else {
        callback(null, first.address, first.family);
      }
    });
  };
}
