import type { LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

/**
 * A table of host names and their addresses, with a `lookup` function like `dns.lookup`. Names that are not in the
 * table do not resolve.
 *
 * @example
 * ```ts
 * const dns = new FakeDns({ 'hooks.example': '127.0.0.1', 'mixed.example': ['93.184.215.14', '10.0.0.1'] });
 * WebhooksModule.forRoot({ …, security: { lookup: dns.lookup } });
 * ```
 */
export class FakeDns {
  /** Every name that was looked up, in the order of the lookups. */
  readonly queries: string[] = [];

  readonly #table = new Map<string, readonly string[]>();

  constructor(table: Readonly<Record<string, string | readonly string[]>> = {}) {
    for (const [name, addresses] of Object.entries(table)) this.set(name, addresses);
  }

  /** Replaces the addresses of a name, as in a DNS rebinding attack. With an empty list, the name no longer resolves. */
  set(name: string, addresses: string | readonly string[]): this {
    const list = typeof addresses === 'string' ? [addresses] : [...addresses];
    const wrong = list.find((address) => isIP(address) === 0);
    if (wrong !== undefined)
      throw new TypeError(
        `FakeDns: invalid address ${JSON.stringify(wrong)} for ${name}. Allowed: IPv4 and IPv6 addresses.`,
      );
    this.#table.set(name.toLowerCase(), list);
    return this;
  }

  /** The lookup function. It is bound to this object, so you can pass `dns.lookup` as a function. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.queries.push(hostname);
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    const found: LookupAddress[] = (this.#table.get(hostname.toLowerCase()) ?? [])
      .map((address) => ({ address, family: isIP(address) }))
      .filter((entry) => family === 0 || entry.family === family);
    // Call back only after the caller has returned, as `dns.lookup` does.
    process.nextTick(() => {
      const [first] = found;
      if (first === undefined) {
        const error: NodeJS.ErrnoException = new Error(`getaddrinfo ENOTFOUND ${hostname}`);
        error.code = 'ENOTFOUND';
        error.syscall = 'getaddrinfo';
        callback(error, '');
      } else if (options.all === true) {
        callback(null, found);
      } else {
        callback(null, first.address, first.family);
      }
    });
  };
}
