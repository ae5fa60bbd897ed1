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

/** Headers, also of 1xx, and the body that is read, with room for what chunks cost. */
const MAX_ANSWER_BYTES = 512 * 1024;
const PIECE_BYTES = 4 * 1024;
/** Addresses of a name that are tried through a proxy. */
const MAX_TUNNELS = 4;

/** How sockets are made and kept. Every key has a default. */
export interface ConnectionOptions {
  /**
   * Most open connections to one origin (scheme, host and port). Fewer than the requests that are sent to it at a time
   * make some wait inside their time limit.
   *
   * @defaultValue 32
   */
  connectionsPerOrigin?: number;
  /**
   * The limit over name resolution, connect and TLS of one connection, in milliseconds. It only matters below a
   * request's own limit.
   *
   * @defaultValue 10_000
   */
  connectTimeoutMs?: number;
  /**
   * How long an idle connection is kept, in milliseconds, unless the receiver asked for less. Longer than receivers keep
   * theirs means requests that meet a closing connection and have to be retried.
   *
   * @defaultValue 4_000
   */
  keepAliveMs?: number;
  /**
   * No connection older than this takes another request, in milliseconds, so that no check of an address is older. Shorter
   * means more TLS handshakes; busy receivers get about one more per connection and interval.
   *
   * @defaultValue 60_000
   */
  connectionMaxAgeMs?: number;
  /**
   * How names become addresses, in the form of `dns.lookup`; it is always asked for all of them.
   *
   * @defaultValue `boundedLookup()`
   */
  lookup?: LookupFunction;
}

/** Who the client is in TLS, and whom it trusts. Everything in PEM; an object is not changed after it was used. */
export interface TlsIdentity {
  /** A client certificate, for receivers that ask for one, and what leads from it to its root. */
  readonly cert?: string;
  /** Its private key. */
  readonly key?: string;
  /** The only authorities that are believed, in place of the public ones. */
  readonly ca?: string;
}

/** What decides where connections may lead. */
export interface AgentPolicy {
  readonly guard: AddressGuard;
  readonly proxy: EgressProxy | null;
}

/** Connections that were made in the same minute, for one identity. */
interface Generation {
  readonly agent: Agent;
  readonly madeAt: number;
  /** Requests that have not ended. */
  underWay: number;
}

/** An agent for one request. */
export interface AgentLease {
  readonly agent: Agent;
  /** The request has ended. Said again it does nothing. */
  readonly end: () => void;
}

/**
 * Hands out undici agents that connect to no address their guard refuses.
 *
 * A name is resolved once for each connection, and refused when any of its addresses is not allowed: with mixed answers
 * the choice would be the attacker's. The socket connects to an address of that one answer, so nothing can change between
 * check and use. After the connect the address is read from the socket and checked again, which also covers whatever way
 * round the resolver there may be; a literal address, for which no resolver is called, is checked before.
 *
 * No connection serves two policies, TLS identities or origins: a policy has an instance of this class, an identity an
 * agent, an origin a pool of it. Nor are TLS sessions shared between identities.
 *
 * Connections age together: after `connectionMaxAgeMs` a new agent takes over, and the old one is destroyed when its last request
 * has ended. Not closed: an agent of undici (7.30) that is closing forgets its pools, and cannot be destroyed any more. undici has `clientTtl` for single connections, but with it a pool that is at its limit when its connections
 * turn old never sends again (undici 7.30: the old ones count until they have closed, and nothing wakes the queue then).
 */
export class GuardedAgents {
  readonly #policy: AgentPolicy;
  readonly #connections: ConnectionOptions;
  readonly #lookup: LookupFunction;
  readonly #maxAgeMs: number;
  /** By identity. */
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

  /** The agent for a request that is made now, until it ends. After {@link destroy}, one that refuses. */
  lease(tls?: TlsIdentity): AgentLease {
    const generation = this.#generationFor(tls);
    generation.underWay++;
    let hasEnded = false;
    return {
      agent: generation.agent,
      end: () => {
        if (hasEnded) return;
        hasEnded = true;
        generation.underWay--;
        this.#endUnused(generation);
      },
    };
  }

  #generationFor(tls: TlsIdentity | undefined): Generation {
    const key = keyOf(tls);
    const generation = this.#current.get(key);
    if (generation !== undefined && (this.#closed || !this.#isOld(generation))) return generation;
    // Once a minute for each identity in use: a good time to let go of those that are not.
    for (const [other, old] of this.#current) {
      if (!this.#isOld(old)) continue;
      this.#current.delete(other);
      this.#retiring.add(old);
      this.#endUnused(old);
      if (other !== key) this.#connectors.delete(other);
    }
    const agent = new Agent(this.#agentOptions(key, tls));
    if (this.#closed) void agent.destroy();
    const made = { agent, madeAt: performance.now(), underWay: 0 };
    this.#current.set(key, made);
    return made;
  }

  /** Ends every connection at once. */
  async destroy(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#current.values(), ...this.#retiring].map(({ agent }) => agent.destroy()));
  }

  #isOld({ madeAt }: Generation): boolean {
    return performance.now() - madeAt > this.#maxAgeMs;
  }

  #endUnused(generation: Generation): void {
    if (generation.underWay > 0 || !this.#retiring.delete(generation)) return;
    // Not at once: undici is in the middle of telling the end of the last request.
    queueMicrotask(() => void generation.agent.destroy());
  }

  #agentOptions(key: string, tls: TlsIdentity | undefined): Agent.Options {
    const { connectionsPerOrigin = 32, keepAliveMs = 4 * SECOND, connectTimeoutMs = 10 * SECOND } = this.#connections;
    // One for all generations: it keeps the TLS sessions, which makes reconnecting cheap.
    let connect = this.#connectors.get(key);
    if (connect === undefined) {
      connect = guardedConnector(this.#policy, this.#lookup, connectTimeoutMs, tls);
      this.#connectors.set(key, connect);
    }
    return {
      // Said, not assumed: undici 8 turns HTTP/2 on, and there one connection would serve several names.
      allowH2: false,
      connections: connectionsPerOrigin,
      pipelining: 1,
      keepAliveTimeout: keepAliveMs,
      // A receiver may ask for less by its header keep-alive, not for more.
      keepAliveMaxTimeout: keepAliveMs,
      maxHeaderSize: 16 * 1024,
      connect,
    };
  }
}

/** Of each identity object: it may be 40 KiB, and comes with each request. */
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
    // Else NODE_TLS_REJECT_UNAUTHORIZED=0, set for something else, would open these connections too.
    rejectUnauthorized: true,
  } as buildConnector.BuildOptions);

  return (options, done) => {
    const callback: buildConnector.Callback = (error, socket) => {
      if (error === null) {
        const hasAnswered = limitAnswers(socket);
        if (socket instanceof TLSSocket) nameRefusals(socket, tls, hasAnswered);
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
        (tunnel) => speakThrough(tunnel, connect, options, callback),
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
    // The function returns its socket, which its type does not say.
    socket = connect(options, settle) as unknown as Socket | undefined;
  } catch (error) {
    // A certificate or key of the identity that cannot be read.
    callback(tlsFailed(error as Error), null);
    return;
  }
  // In front of the listener that starts TLS: a refused address does not even get the handshake's first message.
  socket?.prependOnceListener('connect', function (this: Socket) {
    connected = true;
    const refused = refusedPeer(guard, this);
    if (refused !== null) this.destroy(refused);
  });
}

/**
 * Hands undici what a receiver says in small pieces, and breaks the connection when it says too much in answer to one request, in
 * whatever part of it.
 *
 * undici limits headers, and we the body. Nobody limits the extensions of chunks, which would keep the event loop busy for as
 * long as the time limit lasts. And undici (7.30) makes an error for each header after the one that was too much, to the end of what it
 * was handed: tiny headers in a piece of 64 KiB cost 100 ms, in pieces of 4 KiB 10.
 *
 * @returns whether the receiver has said anything yet
 */
function limitAnswers(socket: Socket): () => boolean {
  const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
  let written = socket.bytesWritten;
  let taken = 0;
  let hasAnswered = false;
  const interim = new InterimAnswers();
  socket.read = (size?: number): Buffer | null => {
    // Of the stream itself.
    if (size !== undefined) return read(size);
    if (socket.destroyed) return null;
    if (socket.bytesWritten !== written) {
      // Another request.
      written = socket.bytesWritten;
      taken = 0;
      interim.sent();
    }
    if (taken > MAX_ANSWER_BYTES) {
      socket.destroy(new SendError('INVALID_RESPONSE', `an answer of more than ${MAX_ANSWER_BYTES} bytes`));
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
 * Sees to it that a server that refuses a client certificate, or misses one, is told from one that is merely gone.
 *
 * In TLS 1.3 the client's handshake is over before its certificate is looked at. The refusal stands where the answer should: as an alert,
 * after which undici (7.30) reports the end of the connection only, or as that end alone, which is all that Node.js' own server says
 * of a certificate it does not trust. An end without a word means the same only where the server has asked for a certificate.
 */
function nameRefusals(socket: TLSSocket, { cert }: TlsIdentity, hasAnswered: () => boolean): void {
  // A client has these from the server's request for a certificate, and from nowhere else.
  const asksForCertificate = socket.getSharedSigalgs().length > 0;
  let alert: Error | undefined;
  socket.prependListener('error', (error) => {
    if (isTlsError(error)) alert ??= error;
  });
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error?: Error) => {
    if (error === undefined || !isGone(error)) return destroy(error);
    if (alert !== undefined) return destroy(alert);
    if (hasAnswered() || !asksForCertificate) return destroy(error);
    const given = cert === undefined ? 'none' : 'one that it may not take';
    const detail = `${describeError(error)}, before any answer: the server asks for a client certificate, and was given ${given}`;
    return destroy(new SendError('TLS_FAILED', detail, { cause: error }));
  };
}

/** A socket through the proxy to an address that was checked, or to the name when the proxy is the guard. */
async function openTunnel(
  proxy: EgressProxy,
  checked: LookupFunction,
  { hostname, port, protocol }: buildConnector.Options,
  timeout: number,
): Promise<Socket> {
  const host = hostOf({ hostname });
  const isSaid = proxy.resolvesNames || isIP(host) !== 0;
  const until = performance.now() + timeout;
  const hosts = isSaid ? [host] : (await addressesOf(checked, host)).map(({ address }) => address);
  const tried: unknown[] = [];
  // As a direct connection would: a proxy without IPv6 refuses those addresses, and takes the others.
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

function speakThrough(
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
    // The name in `options` is what TLS asks for and what the certificate must bear.
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
    return new SendError('CONNECTION_FAILED', 'the connection was gone as soon as it was made');
  return guard.isAllowed(address) ? null : blocked(address);
}

function blocked(address: string, name?: string): SendError {
  return new SendError(
    'ADDRESS_BLOCKED',
    `${address}${name === undefined ? '' : ` (${name})`} is neither public nor in security.allowedAddresses`,
  );
}

/** `lookup` that asks for every address of a name and gives none of them when the guard refuses one. */
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
