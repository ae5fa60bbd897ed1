import { lookup as dnsLookup, Resolver, type LookupAddress, type LookupAllOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

type Callback = Parameters<LookupFunction>[2];

/** libuv lets name resolution have half of its threads, which are four unless `UV_THREADPOOL_SIZE` says otherwise. */
const THREADS = 2;
/** How long a name waits for a thread before it is asked for without one. */
const PATIENCE_MS = 200;
/** How long anybody waits for a name: whatever asks for it has given up by then, or will ask again. */
const LIMIT_MS = 10_000;

/** The host of a URL, an IPv6 address without its brackets. */
export function hostOf(url: Pick<URL, 'hostname'>): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

/** Every address of a name. @throws what the resolver says */
export function addressesOf(lookup: LookupFunction, name: string): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookup(name, { all: true }, (error, found, family) => {
      if (error !== null && error !== undefined) reject(error);
      else resolve(listOf(found, family));
    });
  });
}

/** What a resolver answered, as the list that it was asked for: some give a single address all the same. */
export function listOf(found: string | LookupAddress[], family?: number): readonly LookupAddress[] {
  return Array.isArray(found) ? found : [{ address: found, family: family ?? isIP(found) }];
}

/** The resolver of one instance of the module: `lookup` when the application brings one, else {@link unblockableLookup}. */
export function boundedLookup(lookup: LookupFunction | undefined): LookupFunction {
  return sharedLookup(lookup ?? unblockableLookup());
}

function tookTooLong(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`no answer for ${hostname} within ${LIMIT_MS} ms`), { code: 'ETIMEDOUT' });
}

/**
 * One question for a name at a time: connections that are opened while it is asked share its answer. Nothing is kept, so
 * every connection has an answer that is no older than itself. A resolver that never answers is given up after
 * {@link LIMIT_MS}, and asked anew by the next.
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
    const answered = (...answer: Parameters<Callback>): void => {
      clearTimeout(timer);
      // A resolver that answers twice answers nobody the second time.
      if (asking.get(key) === callbacks) asking.delete(key);
      for (const tell of callbacks.splice(0)) tell(...answer);
    };
    const timer = setTimeout(() => answered(tookTooLong(hostname), ''), LIMIT_MS);
    timer.unref();
    try {
      lookup(hostname, options, answered);
    } catch (error) {
      answered(error as NodeJS.ErrnoException, '');
    }
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
 * through c-ares, which needs no thread. What c-ares does not know waits on for its turn, up to {@link LIMIT_MS}.
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
      clearTimeout(limit);
      ask(hostname, all, callback);
    };
    // Else names whose servers never answer would pile up behind each other.
    const limit = setTimeout(() => {
      waiting.splice(waiting.indexOf(go), 1);
      callback(tookTooLong(hostname), '');
    }, LIMIT_MS);
    limit.unref();
    const timer = setTimeout(() => {
      ways.withoutThread(hostname).then(
        (addresses) => {
          const place = waiting.indexOf(go);
          // Its turn came meanwhile.
          if (place === -1) return;
          waiting.splice(place, 1);
          clearTimeout(limit);
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
