import type { LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

/**
 * Names and their addresses, in the form of `dns.lookup`. A name that is not in the table does not resolve.
 *
 * @example
 * ```ts
 * const dns = new FakeDns({ 'hooks.example': '127.0.0.1', 'mixed.example': ['93.184.215.14', '10.0.0.1'] });
 * WebhooksModule.forRoot({ …, security: { lookup: dns.lookup } });
 * ```
 */
export class FakeDns {
  /** Every name that was asked for, in order. */
  readonly queries: string[] = [];

  readonly #table = new Map<string, readonly string[]>();

  constructor(table: Readonly<Record<string, string | readonly string[]>> = {}) {
    for (const [name, addresses] of Object.entries(table)) this.set(name, addresses);
  }

  /** Gives a name other addresses from now on, as a rebinding attack does; an empty list makes it unknown. */
  set(name: string, addresses: string | readonly string[]): this {
    const list = typeof addresses === 'string' ? [addresses] : [...addresses];
    const wrong = list.find((address) => isIP(address) === 0);
    if (wrong !== undefined) throw new TypeError(`FakeDns: ${JSON.stringify(wrong)} of ${name} is no IP address.`);
    this.#table.set(name.toLowerCase(), list);
    return this;
  }

  /** Bound: can be passed on as it is. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    this.queries.push(hostname);
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    const found: LookupAddress[] = (this.#table.get(hostname.toLowerCase()) ?? [])
      .map((address) => ({ address, family: isIP(address) }))
      .filter((entry) => family === 0 || entry.family === family);
    // As dns.lookup: never before the caller has returned.
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
