import { lookup as dnsLookup, Resolver, type LookupAddress, type LookupAllOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';

type Callback = Parameters<LookupFunction>[2];

/**
 * Maximum number of lookups that use a thread at the same time. libuv uses at most half of its threads for name resolution. libuv
 * has four threads, unless `UV_THREADPOOL_SIZE` sets another number.
 */
const THREADS = 2;
/** How long a lookup waits for a thread before the name is also resolved without a thread. */
const THREAD_WAIT_MS = 200;
/** Time limit of one lookup. Every caller has a shorter limit or retries later. */
const LOOKUP_TIMEOUT_MS = 10_000;

/** The host of a URL. An IPv6 address is returned without its brackets. */
export function hostOf(url: Pick<URL, 'hostname'>): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

/** Returns every address of a name. @throws the error of the resolver */
export function addressesOf(lookup: LookupFunction, name: string): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookup(name, { all: true }, (error, found, family) => {
      if (error !== null && error !== undefined) reject(error);
      else resolve(listOf(found, family));
    });
  });
}

/** The answer of a resolver as a list. Some resolvers return a single address even if the caller asks for all addresses. */
export function listOf(found: string | LookupAddress[], family?: number): readonly LookupAddress[] {
  return Array.isArray(found) ? found : [{ address: found, family: family ?? isIP(found) }];
}

/**
 * The resolver of one instance of the module: `lookup` if the application sets this option, otherwise {@link
 * unblockableLookup}.
 */
export function boundedLookup(lookup: LookupFunction | undefined): LookupFunction {
  return sharedLookup(lookup ?? unblockableLookup());
}

function lookupTimeout(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`no answer for ${hostname} within ${LOOKUP_TIMEOUT_MS} ms`), { code: 'ETIMEDOUT' });
}

/**
 * Runs only one lookup per name at a time. Connections that are opened during the lookup share its answer. No answer is
 * cached. So an answer always arrives after the connection began to wait for it. A lookup fails after {@link
 * LOOKUP_TIMEOUT_MS}, and the next caller starts a new lookup.
 *
 * Without shared lookups, each connection that waits for an unresponsive name server would hold a separate thread.
 */
export function sharedLookup(lookup: LookupFunction): LookupFunction {
  const pendingLookups = new Map<string, Callback[]>();
  return (hostname, options, callback) => {
    const key = JSON.stringify([hostname, options.family, options.hints, options.all, options.order]);
    const others = pendingLookups.get(key);
    if (others) {
      others.push(callback);
      return;
    }
    const callbacks = [callback];
    pendingLookups.set(key, callbacks);
    const answered = (...answer: Parameters<Callback>): void => {
      clearTimeout(timer);
      // A resolver may call back twice. The second answer is ignored.
      if (pendingLookups.get(key) === callbacks) pendingLookups.delete(key);
      for (const notify of callbacks.splice(0)) notify(...answer);
    };
    const timer = setTimeout(() => answered(lookupTimeout(hostname), ''), LOOKUP_TIMEOUT_MS);
    timer.unref();
    try {
      lookup(hostname, options, answered);
    } catch (error) {
      answered(error as NodeJS.ErrnoException, '');
    }
  };
}

/** The two lookup methods of {@link unblockableLookup}. */
export interface LookupMethods {
  /** A lookup that holds a thread until the answer arrives. */
  readonly withThread: LookupFunction;
  /** A lookup that needs no thread. */
  readonly withoutThread: (hostname: string) => Promise<LookupAddress[]>;
}

/**
 * A variant of `dns.lookup` in which a slow name does not block other names.
 *
 * getaddrinfo() uses the configuration of the machine (`/etc/hosts`, search domains). But it holds a thread until the name servers answer
 * or the attempt times out. A timeout can take half a minute, and two such names block the resolution of all other names. So only {@link
 * THREADS} lookups with a thread run at the same time. A name that has waited {@link THREAD_WAIT_MS} for a thread is also resolved through
 * c-ares. c-ares needs no thread. If c-ares does not know the name, the lookup still waits for a thread, up to {@link LOOKUP_TIMEOUT_MS}.
 */
export function unblockableLookup(methods: LookupMethods = systemMethods()): LookupFunction {
  let running = 0;
  const waiting: (() => void)[] = [];

  const startLookup = (hostname: string, options: LookupAllOptions, callback: Callback): void => {
    running++;
    methods.withThread(hostname, options, (...answer) => {
      running--;
      waiting.shift()?.();
      callback(...answer);
    });
  };

  return (hostname, options, callback) => {
    const all = options as LookupAllOptions;
    if (running < THREADS || isIP(hostname) !== 0) {
      startLookup(hostname, all, callback);
      return;
    }
    const start = (): void => {
      clearTimeout(timer);
      clearTimeout(limit);
      startLookup(hostname, all, callback);
    };
    // Without a limit, names whose servers do not answer would wait for each other.
    const limit = setTimeout(() => {
      waiting.splice(waiting.indexOf(start), 1);
      callback(lookupTimeout(hostname), '');
    }, LOOKUP_TIMEOUT_MS);
    limit.unref();
    const timer = setTimeout(() => {
      methods.withoutThread(hostname).then(
        (addresses) => {
          const place = waiting.indexOf(start);
          // The lookup has received a thread meanwhile.
          if (place === -1) return;
          waiting.splice(place, 1);
          clearTimeout(limit);
          callback(null, addresses);
        },
        () => undefined,
      );
    }, THREAD_WAIT_MS);
    waiting.push(start);
  };
}

function systemMethods(): LookupMethods {
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
      if (!found.length) throw new Error(`the name servers do not know ${hostname}`);
      return found;
    },
  };
}
