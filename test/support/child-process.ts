import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** A program under test. */
export interface RunningProgram {
  /** Its output so far, both streams. */
  output(): string;
  /** Waits until it has printed a text. @throws with all its output, if it ends first or takes longer than `timeoutMs` */
  printed(text: string, timeoutMs?: number): Promise<void>;
  stop(): Promise<void>;
}

const POLL_MS = 20;

export function startProgram(
  command: string,
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string> },
): RunningProgram {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let hasEnded = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  child.on('error', (error) => {
    output += String(error);
    hasEnded = true;
  });
  child.on('close', (code, signal) => {
    output += `\n(ended: ${signal ?? code})`;
    hasEnded = true;
  });
  return {
    output: () => output,
    async printed(text, timeoutMs = 20_000) {
      const deadline = Date.now() + timeoutMs;
      while (!output.includes(text)) {
        if (hasEnded || Date.now() > deadline) throw new Error(`${command} did not print '${text}' but:\n${output}`);
        await pause(POLL_MS);
      }
    },
    async stop() {
      if (hasEnded) return;
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await closed;
      clearTimeout(timer);
    },
  };
}

/** A port that no process listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits until a server accepts HTTP requests. */
export async function answering(url: string, program: RunningProgram, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      await (await fetch(url)).arrayBuffer();
      return;
    } catch {
      if (Date.now() > deadline) throw new Error(`nothing answers at ${url}:\n${program.output()}`);
      await pause(POLL_MS);
    }
  }
}
