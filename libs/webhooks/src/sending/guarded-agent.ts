import { createHash } from 'node:crypto';
import type { LookupFunction } from 'node:net';
import { Agent, buildConnector } from 'undici';
import type { AgentPolicy, ConnectionOptions, TlsIdentity } from './connection-options.js';
import { guardedConnector, type ConnectionEnd } from './guarded-connector.js';
import { boundedLookup } from './lookup.js';
import type { ConnectionPhases } from './phases.js';
import { SECOND } from '../time.js';

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
