import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** The programs that run in child processes. Each exports functions, and keeps its state in its module. */
export interface Programs {
  application: typeof import('./programs/application.js');
  engine: typeof import('./programs/engine.js');
  posts: typeof import('./programs/posts.js');
  queue: typeof import('./programs/queue.js');
  receiver: typeof import('./programs/receiver.js');
}

/** A call of a function of a program, as a message. @internal */
export interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

/** The result of a call. @internal */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  /** The stack of the error that the function threw. */
  readonly error?: string;
}

type Parameters<F> = F extends (...args: infer A) => unknown ? A : never;
type Answered<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never;

/** One program in a child process. */
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

  /** @param profileFolder where the process writes a CPU profile when it ends */
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

  /**
   * Calls a function of the program in the child process. @throws the error that the function throws, or an error if
   * the process has ended
   */
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

  /** Ends the process: asks it to end, and kills it if it does not. `SIGKILL` kills it without asking. */
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
