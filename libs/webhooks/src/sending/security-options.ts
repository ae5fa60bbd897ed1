import type { LookupFunction } from 'node:net';
import { ConfigurationError } from '../errors.js';
import { show } from '../show.js';
import { AddressGuard } from './address-guard.js';
import { type EgressProxyOptions, resolveEgressProxy, type ResolvedEgressProxy } from './egress-proxy.js';

/** Where webhooks may be sent. No default depends on `NODE_ENV`: what is safe in production is what tests meet too. */
export interface SecurityOptions {
  /**
   * CIDR ranges that may be reached although they are not public, such as `['127.0.0.0/8', '::1/128']` in tests and
   * demos. Whoever may create a listener can then make this application POST to every service in them. Cloud metadata
   * addresses stay blocked unless one is named alone (`169.254.169.254/32`).
   *
   * @defaultValue []
   */
  allowedAddresses?: readonly string[];

  /**
   * Also send to `http:` URLs, where everybody on the way reads payload and signature.
   *
   * @defaultValue false
   */
  allowHttp?: boolean;

  /**
   * The only ports that may be sent to, such as `[443, 8443]`. `'any'` lets customers make this application open connections
   * to every port of public addresses; with `https:` all it says there is the beginning of a TLS handshake.
   *
   * @defaultValue 'any'
   */
  allowedPorts?: 'any' | readonly number[];

  /**
   * The proxy that every webhook goes through. None is ever taken from the environment.
   *
   * @defaultValue none: connections are made directly
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

/** Whether a URL's port, the scheme's own where it names none, may be sent to. */
export function isPortAllowed(url: URL, allowedPorts: ResolvedSecurityOptions['allowedPorts']): boolean {
  return allowedPorts === 'any' || allowedPorts.includes(Number(url.port) || (url.protocol === 'https:' ? 443 : 80));
}

/**
 * Fills in the defaults and checks what was given.
 *
 * @throws {@link ConfigurationError} `INVALID_OPTION`, naming key, value and fix
 */
export function resolveSecurityOptions(options: SecurityOptions = {}): ResolvedSecurityOptions {
  const { allowedAddresses = [], allowHttp = false, allowedPorts = 'any', lookup } = options;
  if (typeof allowHttp !== 'boolean') {
    throw new ConfigurationError('INVALID_OPTION', `security.allowHttp is ${show(allowHttp)}: give true or false.`);
  }
  if (!Array.isArray(allowedAddresses)) {
    throw new ConfigurationError(
      'INVALID_OPTION',
      `security.allowedAddresses is ${show(allowedAddresses)}: give an array of CIDR ranges such as "10.0.0.0/8".`,
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
    `security.allowedPorts is ${show(given)}: give 'any', or a list of ports from 1 to 65535 such as [443].`,
  );
}
