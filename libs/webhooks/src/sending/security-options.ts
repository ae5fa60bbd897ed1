import type { LookupFunction } from 'node:net';
import { ConfigurationError } from '../errors.js';
import { show } from '../show.js';
import { AddressGuard } from './address-guard.js';
import { type EgressProxyOptions, resolveEgressProxy, type ResolvedEgressProxy } from './egress-proxy.js';

/**
 * Which addresses webhooks may be sent to. No default depends on `NODE_ENV`, so tests run with the defaults of
 * production.
 */
export interface SecurityOptions {
  /**
   * CIDR ranges to which webhooks may be sent although they are not public, such as `['127.0.0.0/8', '::1/128']` in
   * tests and demos. Anybody who may create a listener can then make this application POST to every service in these
   * ranges. Cloud metadata addresses stay blocked unless an entry names exactly one (`169.254.169.254/32`).
   *
   * @defaultValue []
   */
  allowedAddresses?: readonly string[];

  /**
   * Whether webhooks may be sent to `http:` URLs. Anybody on the network path can then read payload and signature.
   *
   * @defaultValue false
   */
  allowHttp?: boolean;

  /**
   * The only ports to which webhooks may be sent, such as `[443, 8443]`. With `'any'`, customers can make this
   * application open connections to every port of public addresses. With `https:`, such a connection sends only the
   * start of a TLS handshake.
   *
   * @defaultValue 'any'
   */
  allowedPorts?: 'any' | readonly number[];

  /**
   * The proxy for all webhooks. Proxy settings of the environment are ignored.
   *
   * @defaultValue none: connections are direct
   */
  proxy?: EgressProxyOptions;

  /**
   * Resolves names to addresses, with the signature of `dns.lookup`: a resolver with a cache, or `FakeDns` in tests. Every
   * address that it returns is checked.
   *
   * @defaultValue `dns.lookup`
   */
  lookup?: LookupFunction;
}

/** {@link SecurityOptions} with every default filled in. */
export interface ResolvedSecurityOptions extends Readonly<Required<Omit<SecurityOptions, 'proxy' | 'lookup'>>> {
  readonly proxy: ResolvedEgressProxy | null;
  readonly lookup: LookupFunction | undefined;
}

/** Whether webhooks may be sent to the port of a URL. A URL without a port has the default port of its scheme. */
export function isPortAllowed(url: URL, allowedPorts: ResolvedSecurityOptions['allowedPorts']): boolean {
  return allowedPorts === 'any' || allowedPorts.includes(Number(url.port) || (url.protocol === 'https:' ? 443 : 80));
}

/**
 * Fills in the defaults and checks the given options.
 *
 * @throws {@link ConfigurationError} `INVALID_OPTION`. The message names key, value and fix
 */
export function resolveSecurityOptions(options: SecurityOptions = {}): ResolvedSecurityOptions {
  const { allowedAddresses = [], allowHttp = false, allowedPorts = 'any', lookup } = options;
  if (typeof allowHttp !== 'boolean') {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value ${show(allowHttp)} for \`security.allowHttp\`. Allowed: true, false.`,
    );
  }
  if (!Array.isArray(allowedAddresses)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `Invalid value ${show(allowedAddresses)} for \`security.allowedAddresses\`. Allowed: an array of CIDR ranges such as "10.0.0.0/8".`,
    );
  }
  void new AddressGuard(allowedAddresses);
  assertPorts(allowedPorts);
  if (lookup !== undefined && typeof lookup !== 'function') {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.lookup is ${show(lookup)}: give a function with the signature of dns.lookup.`,
    );
  }
  return Object.freeze({
    allowedAddresses: Object.freeze([...allowedAddresses]),
    allowHttp,
    allowedPorts: allowedPorts === 'any' ? allowedPorts : Object.freeze([...allowedPorts]),
    proxy: resolveEgressProxy(options.proxy),
    lookup,
  });
}

function assertPorts(given: unknown): void {
  if (given === 'any') return;
  const isPort = (port: unknown): boolean => Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65_535;
  if (Array.isArray(given) && given.length > 0 && given.every(isPort)) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Invalid value ${show(given)} for \`security.allowedPorts\`. Allowed: 'any', or an array of ports from 1 to 65535 such as [443].`,
  );
}
