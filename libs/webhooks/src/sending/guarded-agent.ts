import { isIP, type LookupFunction, type Socket } from 'node:net';

import { Agent, buildConnector } from 'undici';

import type { AddressGuard } from './address-guard.js';
import { describeError, isOutOfSockets, SendError } from './send-error.js';
import { sharedLookup, unblockableLookup } from './shared-lookup.js';

const SECOND = 1000;

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
   * How names become addresses, in the form of `dns.lookup`; it is always asked for all of them, and once for connections
   * that are opened at the same time.
   *
   * @defaultValue dns.lookup, and c-ares while slow names hold its threads
   */
  lookup?: LookupFunction;
}

/**
 * Hands out an undici agent that connects to no address its guard refuses.
 *
 * A name is resolved once for each connection, and refused when any of its addresses is not allowed: with mixed answers
 * the choice would be the attacker's. The socket connects to an address of that one answer, so nothing can change between
 * check and use. After the connect the address is read from the socket and checked again, which also covers whatever way
 * round the resolver there may be; a literal address, for which no resolver is called, is checked before.
 *
 * Connections age together: after `connectionMaxAgeMs` a new agent takes over, and the old one closes its connections as
 * they finish. undici has `clientTtl` for single connections, but with it a pool that is at its limit when its connections
 * turn old never sends again (undici 7.30: the old ones count until they have closed, and nothing wakes the queue then).
 */
export class GuardedAgents {
  readonly #options: Agent.Options;
  readonly #maxAgeMs: number;
  readonly #retiring = new Set<Agent>();
  #current: Agent | null = null;
  #madeAt = 0;
  #closed = false;

  constructor(guard: AddressGuard, options: ConnectionOptions = {}) {
    this.#maxAgeMs = options.connectionMaxAgeMs ?? 60 * SECOND;
    this.#options = {
      // Said, not assumed: undici 8 turns HTTP/2 on, and there one connection would serve several names.
      allowH2: false,
      connections: options.connectionsPerOrigin ?? 32,
      pipelining: 1,
      keepAliveTimeout: options.keepAliveMs ?? 4 * SECOND,
      keepAliveMaxTimeout: 60 * SECOND,
      maxHeaderSize: 16 * 1024,
      // One for all agents: it keeps the TLS sessions, which makes reconnecting cheap.
      connect: guardedConnector(
        guard,
        sharedLookup(options.lookup ?? unblockableLookup()),
        options.connectTimeoutMs ?? 10 * SECOND,
      ),
    };
  }

  /** The agent for a request that is made now. After {@link destroy}, one that refuses. */
  get(): Agent {
    if (this.#current !== null && (this.#closed || performance.now() - this.#madeAt <= this.#maxAgeMs)) {
      return this.#current;
    }
    const old = this.#current;
    if (old !== null) {
      this.#retiring.add(old);
      // Bounded: every request has a time limit. A failure to close leaves nothing to do but to let go.
      const done = (): boolean => this.#retiring.delete(old);
      old.close().then(done, done);
    }
    this.#current = new Agent(this.#options);
    this.#madeAt = performance.now();
    return this.#current;
  }

  /** Ends every connection at once. */
  async destroy(): Promise<void> {
    if (this.#closed) return;
    const agents = [this.get(), ...this.#retiring];
    this.#closed = true;
    await Promise.all(agents.map((agent) => agent.destroy()));
  }
}

function guardedConnector(guard: AddressGuard, lookup: LookupFunction, timeout: number): buildConnector.connector {
  const connect = buildConnector({
    allowH2: false,
    timeout,
    lookup: guardedLookup(guard, lookup),
    // Else NODE_TLS_REJECT_UNAUTHORIZED=0, set for something else, would open these connections too.
    rejectUnauthorized: true,
  } as buildConnector.BuildOptions);

  return (options, callback) => {
    const host = options.hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0 && !guard.isAllowed(host)) {
      callback(blocked(host), null);
      return;
    }
    let connected = false;
    // The function returns its socket, which its type does not say.
    const socket = connect(options, (error, open) => {
      if (error !== null) {
        const tlsFailed = connected && options.protocol === 'https:' && !(error instanceof SendError);
        callback(tlsFailed ? new SendError('TLS_FAILED', describeError(error), { cause: error }) : error, null);
        return;
      }
      const refused = refusedPeer(guard, open);
      if (refused === null) {
        callback(null, open);
      } else {
        open.destroy();
        callback(refused, null);
      }
    }) as unknown as Socket | undefined;
    // In front of the listener that starts TLS: a refused address does not even get the handshake's first message.
    socket?.prependOnceListener('connect', () => {
      connected = true;
      const refused = refusedPeer(guard, socket);
      if (refused !== null) socket.destroy(refused);
    });
  };
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
      const addresses = Array.isArray(found) ? found : [{ address: found, family: family ?? isIP(found) }];
      const refused = addresses.find(({ address }) => !guard.isAllowed(address));
      const [first] = addresses;
      if (refused !== undefined) {
        callback(blocked(refused.address, hostname), '');
      } else if (first === undefined) {
        callback(new SendError('DNS_FAILED', `${hostname} has no address`), '');
      } else if (options.all === true) {
        callback(null, addresses);
      } else {
        callback(null, first.address, first.family);
      }
    });
  };
}
