import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** The programs that run in processes of their own: each exports functions, and keeps its state in its module. */
export interface Programs {
  application: typeof import('./programs/application.js');
  posts: typeof import('./programs/posts.js');
  queue: typeof import('./programs/queue.js');
  receiver: typeof import('./programs/receiver.js');
}

/** A function of a program, as a message. @internal */
export interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

/** What came of it. @internal */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  /** The stack of what was thrown. */
  readonly error?: string;
}

type Parameters<F> = F extends (...args: infer A) => unknown ? A : never;
type Answered<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never;

/** One program in a process of its own. */
export class Child<P> {
  private readonly waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  private calls = 0;

  private constructor(
    private readonly name: string,
    private readonly process: ChildProcess,
  ) {
    process.on('message', ({ id, value, error }: Answer) => {
      const call = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) call?.resolve(value as never);
      else call?.reject(new Error(`in the process of ${name}: ${error}`));
    });
    process.on('exit', (code, signal) => {
      for (const { reject } of this.waiting.values()) {
        reject(new Error(`the process of ${name} ended: ${signal ?? code}`));
      }
      this.waiting.clear();
    });
  }

  /** @param profileFolder where the process leaves a CPU profile when it ends */
  static start<N extends keyof Programs>(program: N, profileFolder: string | null = null): Child<Programs[N]> {
    const child = fork(fileURLToPath(new URL('child-main.js', import.meta.url)), [program], {
      serialization: 'advanced',
      execArgv: profileFolder === null ? [] : ['--cpu-prof', '--cpu-prof-dir', profileFolder],
    });
    return new Child(program, child);
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** Calls a function of the program there. @throws what it throws, or that the process ended */
  call<K extends keyof P & string>(name: K, ...args: Parameters<P[K]>): Promise<Answered<P[K]>> {
    return new Promise((resolve, reject) => {
      if (!this.process.connected) {
        reject(new Error(`the process of ${this.name} has ended`));
        return;
      }
      const call: Call = { id: ++this.calls, name, args };
      this.waiting.set(call.id, { resolve, reject });
      this.process.send(call);
    });
  }

  /** Ends it: by itself, or when it does not, or with `SIGKILL`, without asking. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    if (signal === 'SIGKILL') this.process.kill(signal);
    else this.process.disconnect();
    const timer = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
    await exited;
    clearTimeout(timer);
  }
}
