import { execFileSync } from 'node:child_process';
import dns from 'node:dns';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, open, openSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** glibc stops after two tries of five seconds. */
const LOOKUP_TIMEOUT_MS = 10_000;
/** Number of FIFOs. Opening one to write releases all of its readers. */
const FIFO_COUNT = 256;

/**
 * Makes the name server of `*.never.test` one that never answers, for this process, in every way to look up a name.
 *
 * `dns.lookup` calls getaddrinfo on one of libuv's four threads, and keeps the thread as long as the server is
 * silent. Reading a FIFO without a writer blocks a thread in the same way, and needs no change to the machine. Code
 * that queries name servers itself is sent to a socket that does not answer.
 *
 * Call this before the module is wired, because the module takes `dns.lookup` as it is then.
 */
export async function silenceNameServers(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webhooks-bench-'));
  const fifos = Array.from({ length: FIFO_COUNT }, (_, i) => join(folder, String(i)));
  execFileSync('mkfifo', fifos);
  process.once('exit', () => {
    // Node.js waits for its threads at exit. So release the threads that read, and leave nothing to read for later
    // ones.
    for (const fifo of fifos) openToWrite(fifo);
    rmSync(folder, { recursive: true, force: true });
  });
  let lookups = 0;

  const lookup = dns.lookup as (...args: unknown[]) => void;
  const patched = (...args: unknown[]): void => {
    if (!String(args[0]).endsWith('.never.test')) {
      lookup(...args);
      return;
    }
    const fifo = fifos[lookups++ % FIFO_COUNT] as string;
    const callback = args.at(-1) as (error: Error) => void;
    // Opening a FIFO to read blocks its thread until the FIFO is opened to write.
    open(fifo, 'r', (error, fd) => {
      if (!error) closeSync(fd);
      callback(Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' }));
    });
    setTimeout(() => closeSync(openToWrite(fifo)), LOOKUP_TIMEOUT_MS).unref();
  };
  Object.assign(dns, { lookup: patched });
  syncBuiltinESMExports();

  const silent = createSocket('udp4').bind(0, '127.0.0.1').unref();
  await once(silent, 'listening');
  dns.setServers([`127.0.0.1:${silent.address().port}`]);
}

/** Opens the FIFO to write, which does not block because it is opened to read as well. */
function openToWrite(fifo: string): number {
  return openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
}
