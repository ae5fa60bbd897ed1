import type { LookupFunction } from 'node:net';
import {
  flag,
  group,
  option,
  optionalFunction,
  optionalGroup,
  type OptionTable,
  type Resolved,
} from '../option-table.js';
import { AddressGuard } from './address-guard.js';
import { EGRESS_PROXY, type EgressProxyOptions } from './egress-proxy.js';

/**
 * The addresses to which webhooks may be sent. No default depends on `NODE_ENV`, so tests run with the defaults of
 * production.
 */
export interface SecurityOptions {
  /**
   * CIDR ranges of addresses that are not public and to which webhooks may be sent, such as `['127.0.0.0/8', '::1/128']` in tests
   * and demos. Everyone who may create a listener can then make this application send a POST to every service in these ranges. A
   * cloud metadata address stays blocked, unless an entry names exactly this address (`169.254.169.254/32`).
   *
   * @defaultValue `[]`
   */
  allowedAddresses?: readonly string[];

  /**
   * Whether webhooks may be sent to `http:` URLs. Everyone on the network path can then read the payload and the
   * signature.
   *
   * @defaultValue false
   */
  allowHttp?: boolean;

  /**
   * The only ports to which webhooks may be sent, such as `[443, 8443]`. With `'any'`, customers can make this
   * application open connections to every port of public addresses. If the URL begins with `https:`, and the server
   * does not use TLS, such a connection sends only the start of a TLS handshake.
   *
   * @defaultValue 'any'
   */
  allowedPorts?: 'any' | readonly number[];

  /**
   * The proxy for all webhooks. Proxy settings of the environment are ignored. See `docs/options.md#through-a-proxy`.
   *
   * @defaultValue no proxy: connections are direct
   */
  proxy?: EgressProxyOptions;

  /**
   * A function that resolves names to addresses, with the signature of `dns.lookup`. Examples are a resolver with a cache, or
   * `FakeDns` in tests. Every address that the function returns is checked. By default, `dns.lookup` resolves names. While
   * slow names block the threads of `dns.lookup`, c-ares resolves other names.
   *
   * @defaultValue `dns.lookup`
   */
  lookup?: LookupFunction;
}

const TABLE = {
  allowedAddresses: option<readonly string[]>(Object.freeze([]), {
    allowed: "an array of CIDR ranges such as '10.0.0.0/8'",
    isAllowed: Array.isArray,
    read: (ranges) => {
      void new AddressGuard(ranges);
      return Object.freeze([...ranges]);
    },
  }),
  allowHttp: flag(false),
  allowedPorts: option<'any' | readonly number[]>('any', {
    allowed: "'any', or an array of ports from 1 to 65535 such as [443]",
    isAllowed: (given) => given === 'any' || (Array.isArray(given) && given.length > 0 && given.every(isPort)),
    read: (ports) => (ports === 'any' ? ports : Object.freeze([...ports])),
  }),
  proxy: optionalGroup(group(EGRESS_PROXY)),
  lookup: optionalFunction<LookupFunction>('a function with the signature of dns.lookup'),
} satisfies OptionTable<SecurityOptions>;

/** The group `security`. */
export const SECURITY = group(TABLE);

/** {@link SecurityOptions} with every default filled in. */
export type ResolvedSecurityOptions = Resolved<typeof TABLE>;

/** Whether webhooks may be sent to the port of a URL. A URL without a port has the default port of its scheme. */
export function isPortAllowed(url: URL, allowedPorts: ResolvedSecurityOptions['allowedPorts']): boolean {
  return allowedPorts === 'any' || allowedPorts.includes(Number(url.port) || (url.protocol === 'https:' ? 443 : 80));
}

/** Fills in the defaults and checks the given options. @throws {@link ConfigurationError} `INVALID_OPTION` */
export function resolveSecurityOptions(options: SecurityOptions = {}): ResolvedSecurityOptions {
  return SECURITY.resolve(options, { module: { name: 'WebhooksModule' }, key: 'security' });
}

function isPort(port: unknown): boolean {
  return Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65_535;
}
