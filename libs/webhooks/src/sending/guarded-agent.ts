import { createHash } from 'node:crypto';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

import { Agent, buildConnector } from 'undici';

import type { AddressGuard } from './address-guard.js';
import type { EgressProxy } from './egress-proxy.js';
import { InterimAnswers } from './interim-answers.js';
import { addressesOf, boundedLookup, hostOf, listOf } from './lookup.js';
import { describeError, isGone, isOutOfSockets, isTlsError, SendError, toSendError } from './send-error.js';
import { SECOND } from '../time.js';

/** Limit for one answer: all headers, including those of 1xx, the body that is read, and the overhead of chunks. */
const MAX_ANSWER_BYTES = 512 * 1024;
const PIECE_BYTES = 4 * 1024;
/** How many addresses of a name are tried through a proxy. */
const MAX_TUNNELS = 4;

/** How connections are opened and kept. Every key has a default. */
export interface ConnectionOptions {
  /**
   * Maximum number of open connections to one origin (scheme, host and port). If more requests are sent at the same
   * time, some wait, and the wait counts towards their time limit.
   *
   * @defaultValue 32
   */
  connectionsPerOrigin?: number;
  /**
   * Time limit of one connection for name resolution, connect and TLS together, in milliseconds. It has an effect only
   * if it is shorter than the time limit of the request.
   *
   * @defaultValue 10_000
   */
  connectTimeoutMs?: number;
  /**
   * How long an idle connection is kept, in milliseconds. A receiver can ask for less. If this is longer than receivers
   * keep their connections, some requests meet a closing connection and must be retried.
   *
   * @defaultValue 4_000
   */
  keepAliveMs?: number;
  /**
   * Maximum age of a connection that takes another request, in milliseconds. It limits how old the check of an address
   * can be. A shorter time costs more TLS handshakes: about one per connection and interval for a busy receiver.
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
 * The client's TLS certificate and the authorities that it trusts. All values are PEM. Do not change an object after
 * its first use.
 */
export interface TlsIdentity {
  /** A client certificate for receivers that require one, followed by its intermediate certificates. */
  readonly cert?: string;
  /** The private key of `cert`. */
  readonly key?: string;
  /** The only trusted certificate authorities. They replace the public ones. */
  readonly ca?: string;
}

/** Decides where connections may lead. */
export interface AgentPolicy {
  readonly guard: AddressGuard;
  readonly proxy: EgressProxy | null;
}

/** The connections of one TLS identity that opened within the same `connectionMaxAgeMs`. */
interface Generation {
  readonly agent: Agent;
  readonly madeAt: number;
  /** Requests in flight. */
  inFlight: number;
}

/** An agent for one request. */
export interface AgentLease {
  readonly agent: Agent;
  /** Call it when the request has ended. A second call does nothing. */
  readonly end: () => void;
}

/**
 * Creates undici agents that connect only to addresses that their guard allows.
 *
 * Each connection resolves its name once. If any address of the answer is blocked, the connection is refused: with a
 * mixed answer an attacker could choose which address is used. The socket connects to an address of the same answer, so
 * nothing can change between check and use. After the connect, the address is read from the socket and checked again,
 * in case the connection bypassed the resolver. A literal address, which needs no resolver, is checked before the
 * connect.
 *
 * A connection serves one policy, one TLS identity and one origin. Each policy has its own instance of this class, each
 * identity its own agent, and each origin its own pool in that agent. Identities do not share TLS sessions.
 *
 * Connections are replaced together. After `connectionMaxAgeMs` a new agent takes the requests, and the old agent is
 * destroyed when its last request has ended. It is destroyed, not closed: an undici agent (7.30) that is closing
 * forgets its pools and can no longer be destroyed. undici has `clientTtl` for single connections, but it stops a pool
 * that is at its limit: expired connections count until they have closed, and then nothing starts the queue again
 * (undici 7.30).
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

  constructor(policy: AgentPolicy, connections: ConnectionOptions = {}) {
    this.#policy = policy;
    this.#connections = connections;
    this.#lookup = connections.lookup ?? boundedLookup(undefined);
    this.#maxAgeMs = connections.connectionMaxAgeMs ?? 60 * SECOND;
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
    // This runs once per `connectionMaxAgeMs` and identity, so it also removes identities that are no longer used.
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
    // Deferred, because undici is still reporting the end of the last request.
    queueMicrotask(() => void generation.agent.destroy());
  }

  #agentOptions(key: string, tls: TlsIdentity | undefined): Agent.Options {
    const { connectionsPerOrigin = 32, keepAliveMs = 4 * SECOND, connectTimeoutMs = 10 * SECOND } = this.#connections;
    // All generations share one connector. It keeps the TLS sessions, which makes reconnecting cheap.
    let connect = this.#connectors.get(key);
    if (connect === undefined) {
      connect = guardedConnector(this.#policy, this.#lookup, connectTimeoutMs, tls);
      this.#connectors.set(key, connect);
    }
    return {
      // Set explicitly: undici 8 turns HTTP/2 on by default, and then one connection would serve several names.
      allowH2: false,
      connections: connectionsPerOrigin,
      pipelining: 1,
      keepAliveTimeout: keepAliveMs,
      // The keep-alive header of a receiver may ask for less time, but not for more.
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: 16 * 1024,
      connect,
    };
  }
}

/** Hash of each identity object. Cached, because an identity can be 40 KiB and comes with each request. */
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

function guardedConnector(
  { guard, proxy }: AgentPolicy,
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
    // Otherwise NODE_TLS_REJECT_UNAUTHORIZED=0, set for another purpose, would also turn off verification here.
    rejectUnauthorized: true,
  } as buildConnector.BuildOptions);

  return (options, done) => {
    const callback: buildConnector.Callback = (error, socket) => {
      if (error === null) {
        const hasAnswered = limitAnswers(socket);
        if (socket instanceof TLSSocket) reportCertificateRefusals(socket, tls, hasAnswered);
        done(null, socket);
      } else {
        done(error, null);
      }
    };
    const host = hostOf(options);
    if (isIP(host) !== 0 && !guard.isAllowed(host)) {
      callback(blocked(host), null);
    } else if (proxy === null) {
      connectDirectly(connect, guard, options, callback);
    } else {
      openTunnel(proxy, checked, options, timeout).then(
        (tunnel) => connectThroughTunnel(tunnel, connect, options, callback),
        (error: unknown) => callback(toSendError(error), null),
      );
    }
  };
}

function connectDirectly(
  connect: buildConnector.connector,
  guard: AddressGuard,
  options: buildConnector.Options,
  callback: buildConnector.Callback,
): void {
  let connected = false;
  const settle: buildConnector.Callback = (error, open) => {
    if (error !== null) {
      callback(connected && options.protocol === 'https:' ? tlsFailed(error) : error, null);
      return;
    }
    const refused = refusedPeer(guard, open);
    if (refused === null) {
      callback(null, open);
    } else {
      open.destroy();
      callback(refused, null);
    }
  };
  let socket: Socket | undefined;
  try {
    // The function returns its socket, although its type does not say so.
    socket = connect(options, settle) as unknown as Socket | undefined;
  } catch (error) {
    // The certificate or key of the identity cannot be parsed.
    callback(tlsFailed(error as Error), null);
    return;
  }
  // Runs before the listener that starts TLS, so a blocked address does not receive the first handshake message.
  socket?.prependOnceListener('connect', function (this: Socket) {
    connected = true;
    const refused = refusedPeer(guard, this);
    if (refused !== null) this.destroy(refused);
  });
}

/**
 * Passes the bytes of a receiver to undici in small pieces, and closes the connection when one answer is too long.
 *
 * undici limits headers, and this library limits the body. Neither limits the extensions of chunks, which would keep
 * the event loop busy until the time limit. Small pieces matter because undici (7.30) creates an error for each header
 * above the limit, until the end of the piece: tiny headers in a piece of 64 KiB cost 100 ms, in pieces of 4 KiB 10 ms.
 *
 * @returns a function that reports whether the receiver has sent any byte
 */
function limitAnswers(socket: Socket): () => boolean {
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
  let written = socket.bytesWritten;
  let taken = 0;
  let hasAnswered = false;
  const interim = new InterimAnswers();
  socket.read = (size?: number): Buffer | null => {
    // A call by the stream implementation.
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
  return () => hasAnswered;
}

/**
 * Reports a refused or missing client certificate as `TLS_FAILED` instead of as a lost connection.
 *
 * In TLS 1.3 the client's handshake ends before the server checks the client's certificate, so a refusal arrives in
 * place of the answer. Some servers send an alert, but after an alert undici (7.30) reports only that the connection
 * closed. Other servers close the connection without an alert: the server of Node.js does so for a certificate that it
 * does not trust. A closed connection without an alert counts as a refusal only if the server had requested a
 * certificate.
 */
function reportCertificateRefusals(socket: TLSSocket, { cert }: TlsIdentity, hasAnswered: () => boolean): void {
  // These are set only when the server has requested a certificate.
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

/** Opens a tunnel to a checked address, or to the name when the proxy resolves names. */
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
  // Tries several addresses, as a direct connection does: a proxy without IPv6 refuses IPv6 addresses and accepts the
  // others.
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

function connectThroughTunnel(
  tunnel: Socket,
  connect: buildConnector.connector,
  options: buildConnector.Options,
  callback: buildConnector.Callback,
): void {
  if (options.protocol !== 'https:') {
    callback(null, tunnel.setNoDelay(true));
    return;
  }
  const failed = (error: Error): void => {
    tunnel.destroy();
    callback(tlsFailed(error), null);
  };
  try {
    // TLS requests the name in `options`, and the certificate must match that name.
    connect({ ...options, httpSocket: tunnel }, (error, open) => {
      if (error === null) callback(null, open);
      else failed(error);
    });
  } catch (error) {
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

/** Wraps `lookup`: asks for all addresses of a name, and fails when the guard refuses one of them. */
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
