import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { CommandResult } from './command-line.js';

/** Commands close their connections, and then nothing keeps the process alive. A pool that is left open closes idle connections after 10 s. */
const ENDS_WITHIN_MS = 8_000;

/** Runs commands in one process, in turn. A process starts with the first command. */
export class WarmProcess {
  private child: Promise<ChildProcess> | undefined;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly folder: string,
    private readonly env: NodeJS.ProcessEnv,
  ) {}

  /** @param env more variables of the environment, for this command */
  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandResult> {
    const result = this.turn.then(() => this.ask({ args, env }));
    this.turn = result.catch(() => undefined);
    return result;
  }

  /** Waits for the end of the process. @throws if a command left a connection or a timer that keeps the process alive */
  async end(): Promise<void> {
    const child = await this.child;
    this.child = undefined;
    if (!child) return;
    const exited = once(child, 'exit');
    child.disconnect();
    const timer = setTimeout(() => child.kill('SIGKILL'), ENDS_WITHIN_MS);
    const [code] = (await exited) as [number | null];
    clearTimeout(timer);
    if (code !== 0) throw new Error(`The process of the commands did not end by itself: ${code ?? 'killed'}`);
  }

  private async ask(command: { args: readonly string[]; env: object }): Promise<CommandResult> {
    const child = await (this.child ??= this.start());
    const answer = messageOf<CommandResult>(child);
    child.send(command);
    return answer;
  }

  private async start(): Promise<ChildProcess> {
    const program = join(this.folder, 'node_modules/nestjs-entity-webhooks/dist/cli');
    const child = fork(join(import.meta.dirname, 'warm-process.mjs'), [program], {
      cwd: this.folder,
      env: this.env,
      execArgv: [],
    });
    await messageOf(child);
    return child;
  }
}

/** The next message of a process. @throws if the process ends first */
function messageOf<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null) => reject(new Error(`The process of the commands ended: ${code ?? 'killed'}`));
    child.once('exit', onExit).once('message', (message) => {
      child.off('exit', onExit);
      resolve(message as T);
    });
  });
}
