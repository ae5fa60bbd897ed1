import type { LookupFunction } from 'node:net';
import type { AddressGuard } from './address-guard.js';
import type { EgressProxy } from './egress-proxy.js';

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
