import { createHash } from 'node:crypto';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

import { Agent, buildConnector } from 'undici';

import type { AddressGuard } from './address-guard.js';
import type { EgressProxy } from './egress-proxy.js';
import { InterimAnswers } from './interim-answers.js';
import { addressesOf, boundedLookup, hostOf, listOf } from './lookup.js';
import { ConnectionTimer, type ConnectionPhases } from './phases.js';
import { resetUnanswered } from './reset-unanswered.js';
import { describeError, isGone, isOutOfSockets, isTlsError, SendError, toSendError } from './send-error.js';
import { SECOND } from '../time.js';

/**
 * Maximum number of bytes of one answer. The limit counts all headers, the headers of 1xx answers, the part of
 * the body that is read, and the overhead of chunks.
 */
const MAX_ANSWER_BYTES = 512 * 1024;
const PIECE_BYTES = 4 * 1024;
/** Maximum number of addresses of a name that are tried through a proxy. */
const MAX_TUNNELS = 4;

/** How connections are opened and kept open. Every option has a default. */
export interface ConnectionOptions {
  /**
   * Maximum number of open connections to one origin (scheme, host and port). If more requests are sent at the same
   * time, some requests wait. The wait counts towards the time limit of the request.
   *
   * @defaultValue 32
   */
  connectionsPerOrigin?: number;
  /**
   * Time limit of one connection for name resolution, connect and TLS together, in milliseconds. This limit has an
   * effect only if it is shorter than the time limit of the request.
   *
   * @defaultValue 10_000
   */
  connectTimeoutMs?: number;
  /**
   * How long an idle connection is kept, in milliseconds. A receiver can ask for a shorter time. If receivers close their connections
   * before this time is over, some requests use a closing connection, and must be retried.
   *
   * @defaultValue 4_000
   */
  keepAliveMs?: number;
  /**
   * The maximum age, in milliseconds, at which a connection takes more requests. This age is also the maximum age of an address check. A
   * shorter time causes more TLS handshakes: for a busy receiver, about one handshake for each connection in each such interval.
   *
   * @defaultValue 60_000
   */
  connectionMaxAgeMs?: number;
  /**
   * Resolves names, with the signature of `dns.lookup`. The caller always asks for all addresses.
   *
   * @defaultValue `boundedLookup()`
   */
  lookup?: LookupFunction;
}

/**
 * The TLS certificate of the client, and the authorities that the client trusts. All values are PEM. Do not change
 * an object after its first use.
 */
export interface TlsIdentity {
  /** A client certificate, followed by its intermediate certificates, for receivers that require a client certificate. */
  readonly cert?: string;
  /** The private key of `cert`. */
  readonly key?: string;
  /** The only trusted certificate authorities. They replace the public authorities. */
  readonly ca?: string;
}

/** The rules that decide to which addresses connections are allowed. */
export interface AgentPolicy {
  readonly guard: AddressGuard;
  readonly proxy: EgressProxy | null;
}

/** The connections of one TLS identity that opened within the same `connectionMaxAgeMs`. */
interface Generation {
  readonly agent: Agent;
  readonly madeAt: number;
  /** Number of requests in flight. */
  inFlight: number;
}

/** An agent for one request. */
export interface AgentLease {
  readonly agent: Agent;
  /** Call this function when the request has ended. A second call does nothing. */
  readonly end: () => void;
}

/**
 * Creates undici agents that connect only to addresses that their guard allows.
 *
 * Each connection resolves its name once. If one address of the answer is blocked, the connection is refused. Otherwise an attacker with a
 * mixed answer could choose the used address. The socket connects to an address of the same answer. So the address cannot change between
 * check and use. After the connect, the address is read from the socket and checked again, because the connection may have bypassed the
 * resolver. A literal address needs no resolver, and is checked before the connect.
 *
 * A connection serves one policy, one TLS identity and one origin. Each policy has its own instance of this class. Each
 * identity has its own agent. Each origin has its own pool in that agent. Identities do not share TLS sessions.
 *
 * Connections are replaced together. After `connectionMaxAgeMs`, a new agent takes the requests. The old agent is destroyed when its last
 * request has ended. The old agent is not closed, because a closing undici agent (7.30) forgets its pools and can no longer be destroyed.
 * undici also has the option `clientTtl`, and with it single connections expire. But then a pool at its limit stops: expired connections
 * count until they are closed, and after that the queue is not started again (undici 7.30).
 */
export class GuardedAgents {
  readonly #policy: AgentPolicy;
  readonly #connections: ConnectionOptions;
  readonly #lookup: LookupFunction;
  readonly #maxAgeMs: number;
  /** The key identifies the TLS identity. */
  readonly #current = new Map<string, Generation>();
  readonly #connectors = new Map<string, buildConnector.connector>();
  readonly #retiring = new Set<Generation>();
  #closed = false;
  #ending: ConnectionPhases | null = null;

  constructor(policy: AgentPolicy, connections: ConnectionOptions = {}) {
    this.#policy = policy;
    this.#connections = connections;
    this.#lookup = connections.lookup ?? boundedLookup(undefined);
    this.#maxAgeMs = connections.connectionMaxAgeMs ?? 60 * SECOND;
  }

  /**
   * The phases of the connection that has just opened or failed, while undici starts or fails the request that waited for it. undici does
   * this in the same call (7.30). At all other times the value is `null`. So a request that starts then uses an open connection.
   */
  get endingConnection(): ConnectionPhases | null {
    return this.#ending;
  }

  /** Returns the agent for one new request. After {@link destroy} the agent rejects every request. */
  lease(tls?: TlsIdentity): AgentLease {
    const generation = this.#generationFor(tls);
    generation.inFlight++;
    let hasEnded = false;
    return {
      agent: generation.agent,
      end: () => {
        if (hasEnded) return;
        hasEnded = true;
        generation.inFlight--;
        this.#destroyIfUnused(generation);
      },
    };
  }

  #generationFor(tls: TlsIdentity | undefined): Generation {
    const key = keyOf(tls);
    const generation = this.#current.get(key);
    if (generation !== undefined && (this.#closed || !this.#isOld(generation))) return generation;
    // Also remove identities that are no longer used. This code runs only once in each `connectionMaxAgeMs` for
    // each identity.
    for (const [other, old] of this.#current) {
      if (!this.#isOld(old)) continue;
      this.#current.delete(other);
      this.#retiring.add(old);
      this.#destroyIfUnused(old);
      if (other !== key) this.#connectors.delete(other);
    }
    const agent = new Agent(this.#agentOptions(key, tls));
    if (this.#closed) void agent.destroy();
    const made = { agent, madeAt: performance.now(), inFlight: 0 };
    this.#current.set(key, made);
    return made;
  }

  /** Closes every connection immediately. */
  async destroy(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#current.values(), ...this.#retiring].map(({ agent }) => agent.destroy()));
  }

  #isOld({ madeAt }: Generation): boolean {
    return performance.now() - madeAt > this.#maxAgeMs;
  }

  #destroyIfUnused(generation: Generation): void {
    if (generation.inFlight > 0 || !this.#retiring.delete(generation)) return;
    // Destroy the agent later, because undici is still reporting the end of the last request.
    queueMicrotask(() => void generation.agent.destroy());
  }

  #agentOptions(key: string, tls: TlsIdentity | undefined): Agent.Options {
    const { connectionsPerOrigin = 32, keepAliveMs = 4 * SECOND, connectTimeoutMs = 10 * SECOND } = this.#connections;
    // All generations share one connector. The connector keeps the TLS sessions. So reconnecting is cheap.
    let connect = this.#connectors.get(key);
    if (connect === undefined) {
      const ended: ConnectionEnd = (phases, proceed) => {
        this.#ending = phases;
        try {
          proceed();
        } finally {
          this.#ending = null;
        }
      };
      connect = guardedConnector({ ...this.#policy, ended }, this.#lookup, connectTimeoutMs, tls);
      this.#connectors.set(key, connect);
    }
    return {
      // HTTP/2 is explicitly off. undici 8 turns HTTP/2 on by default, and then one connection would serve
      // several names.
      allowH2: false,
      connections: connectionsPerOrigin,
      pipelining: 1,
      keepAliveTimeout: keepAliveMs,
      // The keep-alive header of a receiver may shorten the time, but not extend it.
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: 16 * 1024,
      connect,
    };
  }
}

/** Cache of the hash of each identity object. An identity can have 40 KiB, and each request has an identity. */
const IDENTITY_KEYS = new WeakMap<TlsIdentity, string>();

function keyOf(tls: TlsIdentity | undefined): string {
  if (tls === undefined) return '';
  let key = IDENTITY_KEYS.get(tls);
  if (key === undefined) {
    const text = JSON.stringify([tls.cert, tls.key, tls.ca]);
    IDENTITY_KEYS.set(tls, (key = createHash('sha256').update(text).digest('base64')));
  }
  return key;
}

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
type ConnectionEnd = (phases: ConnectionPhases, proceed: () => void) => void;

function guardedConnector(
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
