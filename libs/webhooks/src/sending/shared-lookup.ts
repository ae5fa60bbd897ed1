import { lookup as dnsLookup, Resolver, type LookupAddress, type LookupAllOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

type Callback = Parameters<LookupFunction>[2];

/** libuv lets name resolution have half of its threads, which are four unless `UV_THREADPOOL_SIZE` says otherwise. */
const THREADS = 2;
/** How long a name waits for a thread before it is asked for without one. */
const PATIENCE_MS = 200;

/**
 * One question for a name at a time: connections that are opened while it is asked share its answer. Nothing is kept, so
 * every connection has an answer that is no older than itself.
 *
 * Without it every waiting connection to a name whose server does not answer holds a thread of its own.
 */
export function sharedLookup(lookup: LookupFunction): LookupFunction {
  const asking = new Map<string, Callback[]>();
  return (hostname, options, callback) => {
    const key = JSON.stringify([hostname, options.family, options.hints, options.all, options.order]);
    const others = asking.get(key);
    if (others) {
      others.push(callback);
      return;
    }
    const callbacks = [callback];
    asking.set(key, callbacks);
    lookup(hostname, options, (...answer) => {
      // A resolver that answers twice answers nobody the second time.
      if (asking.get(key) === callbacks) asking.delete(key);
      for (const tell of callbacks.splice(0)) tell(...answer);
    });
  };
}

/** How {@link unblockableLookup} asks. */
export interface LookupWays {
  /** Holds a thread until it answers. */
  readonly withThread: LookupFunction;
  /** Needs none. */
  readonly withoutThread: (hostname: string) => Promise<LookupAddress[]>;
}

/**
 * `dns.lookup` that no name can stop for the others.
 *
 * getaddrinfo() knows what the machine knows (`/etc/hosts`, search domains), but holds a thread until its name servers have
 * answered or it has given up on them, half a minute perhaps: two such names stop the resolution of every other. So no more
 * are asked at once than there are threads, and a name that has waited {@link PATIENCE_MS} for its turn is asked for
 * through c-ares, which needs no thread. What c-ares does not know waits on for its turn.
 */
export function unblockableLookup(ways: LookupWays = systemWays()): LookupFunction {
  let running = 0;
  const waiting: (() => void)[] = [];

  const ask = (hostname: string, options: LookupAllOptions, callback: Callback): void => {
    running++;
    ways.withThread(hostname, options, (...answer) => {
      running--;
      waiting.shift()?.();
      callback(...answer);
    });
  };

  return (hostname, options, callback) => {
    const all = options as LookupAllOptions;
    if (running < THREADS || isIP(hostname) !== 0) {
      ask(hostname, all, callback);
      return;
    }
    const go = (): void => {
      clearTimeout(timer);
      ask(hostname, all, callback);
    };
    const timer = setTimeout(() => {
      ways.withoutThread(hostname).then(
        (addresses) => {
          const place = waiting.indexOf(go);
          // Its turn came meanwhile.
          if (place === -1) return;
          waiting.splice(place, 1);
          callback(null, addresses);
        },
        () => undefined,
      );
    }, PATIENCE_MS);
    waiting.push(go);
  };
}

function systemWays(): LookupWays {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  const resolve = (hostname: string, family: 4 | 6): Promise<LookupAddress[]> =>
    new Promise((found) => {
      const answered = (error: unknown, addresses: string[]): void =>
        found(error ? [] : addresses.map((address) => ({ address, family })));
      if (family === 4) resolver.resolve4(hostname, answered);
      else resolver.resolve6(hostname, answered);
    });
  return {
    withThread: dnsLookup as LookupFunction,
    async withoutThread(hostname) {
      const found = (await Promise.all([resolve(hostname, 4), resolve(hostname, 6)])).flat();
      if (!found.length) throw new Error(`${hostname} is not known to its name servers`);
      return found;
    },
  };
}
