import { execFileSync } from 'node:child_process';
import dns from 'node:dns';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, open, openSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** glibc gives up after two tries of five seconds. */
const GIVES_UP_AFTER_MS = 10_000;
/** One FIFO each: letting one go lets all of its readers go. */
const MOST_AT_ONCE = 256;

/**
 * Makes the name server of `*.never.test` one that never answers, for this process, whichever way names are looked up.
 *
 * `dns.lookup` calls getaddrinfo on one of libuv's four threads, which it keeps as long as the server is silent. Reading a
 * FIFO that nobody writes to keeps a thread just so, and needs no change to the machine. What asks name servers by itself
 * is sent to a socket that does not answer.
 *
 * Called before the module is wired: it takes `dns.lookup` as it finds it then.
 */
export async function silenceNameServers(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webhooks-bench-'));
  const fifos = Array.from({ length: MOST_AT_ONCE }, (_, i) => join(folder, String(i)));
  execFileSync('mkfifo', fifos);
  process.once('exit', () => {
    // Node.js waits for its threads: those that read are let go, and those that come after them find nothing to read.
    for (const fifo of fifos) letGo(fifo);
    rmSync(folder, { recursive: true, force: true });
  });
  let lookups = 0;

  const lookup = dns.lookup as (...args: unknown[]) => void;
  const patched = (...args: unknown[]): void => {
    if (!String(args[0]).endsWith('.never.test')) {
      lookup(...args);
      return;
    }
    const fifo = fifos[lookups++ % MOST_AT_ONCE] as string;
    const callback = args.at(-1) as (error: Error) => void;
    // Opening a FIFO to read waits in its thread until somebody opens it to write.
    open(fifo, 'r', (error, fd) => {
      if (!error) closeSync(fd);
      callback(Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' }));
    });
    setTimeout(() => closeSync(letGo(fifo)), GIVES_UP_AFTER_MS).unref();
  };
  Object.assign(dns, { lookup: patched });
  syncBuiltinESMExports();

  const silent = createSocket('udp4').bind(0, '127.0.0.1').unref();
  await once(silent, 'listening');
  dns.setServers([`127.0.0.1:${silent.address().port}`]);
}

/** Opens it to write, which does not wait as it is opened to read, too. */
function letGo(fifo: string): number {
  return openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
}
