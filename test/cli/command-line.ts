import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createScratchProject, type ScratchProject } from '../support/scratch-project.js';
import { WarmProcess } from './warm-process.js';

/** The result of a command. */
export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** How a command runs. */
export interface CommandOptions {
  /** More variables of its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its standard input. */
  readonly input?: string;
  /** Whether it has its own process, because other commands run while it waits. */
  readonly alone?: boolean;
}

/** The built program, in a project whose data source file a test writes. */
export interface CommandLine {
  readonly project: ScratchProject;
  /**
   * Runs a command in the folder of the project, in a process that the commands share, one after the other. With `input`, `alone` or
   * `NODE_OPTIONS` the command has its own process, which takes ten times as long. @throws if a signal ended it
   */
  run(args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Runs a command with `--json`. @returns its result, parsed */
  json<T>(...args: readonly string[]): Promise<T>;
  start(args: readonly string[], env?: Record<string, string>): ChildProcess;
  /**
   * Runs a command on a pseudo terminal, with the `script` of util-linux.
   *
   * @param answers what to type when a text appears
   */
  onTerminal(
    args: readonly string[],
    answers: Readonly<Record<string, string>>,
    env?: Record<string, string>,
  ): Promise<Pick<CommandResult, 'code' | 'out'>>;
  /** Ends the shared process. @throws if a command left something open, such as a connection */
  end(): Promise<void>;
  /** Calls {@link end}, and removes the project. */
  remove(): Promise<void>;
}

export async function createCommandLine(): Promise<CommandLine> {
  const project = await createScratchProject();
  const program = join(project.folder, 'node_modules/nestjs-entity-webhooks/dist/cli/main.js');
  // The options of the test run are not for this process.
  const inherited = { ...process.env, NODE_OPTIONS: process.env.TYPEORM === '0.3' ? process.env.NODE_OPTIONS : '' };
  const warm = new WarmProcess(project.folder, inherited);
  const start = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    spawn(process.execPath, [program, ...args], {
      cwd: project.folder,
      env: { ...inherited, ...env },
      stdio: 'pipe',
    });
  const runAlone: CommandLine['run'] = (args, { env, input = '' } = {}) =>
    new Promise((resolve, reject) => {
      const child = start(args, env);
      let out = '';
      let err = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text));
      child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text));
      child.on('error', reject);
      child.on('close', (code, signal) =>
        code === null ? reject(new Error(`${args.join(' ')} ended by ${signal}: ${err}`)) : resolve({ code, out, err }),
      );
      child.stdin?.end(input);
    });
  // Node.js reads NODE_OPTIONS only when a process starts.
  const needsProcess = ({ env, input, alone }: CommandOptions) =>
    alone || input !== undefined || env?.NODE_OPTIONS !== undefined;
  const run: CommandLine['run'] = (args, options = {}) =>
    needsProcess(options) ? runAlone(args, options) : warm.run(args, options.env);
  const onTerminal: CommandLine['onTerminal'] = (args, answers, env = {}) =>
    new Promise((resolve, reject) => {
      const command = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ');
      const child = spawn('script', ['-qec', command, '/dev/null'], {
        cwd: project.folder,
        env: { ...process.env, NODE_OPTIONS: '', NO_COLOR: '', TERM: 'xterm', ...env },
      });
      const left = new Map(Object.entries(answers));
      let out = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        out += text;
        for (const [question, answer] of left) {
          if (!out.includes(question)) continue;
          left.delete(question);
          child.stdin.write(`${answer}\n`);
        }
      });
      child.on('error', reject);
      child.on('close', (code) => resolve({ code: code ?? -1, out }));
    });
  return {
    project,
    run,
    start,
    onTerminal,
    async json<T>(...args: readonly string[]) {
      const { code, out, err } = await run([...args, '--json']);
      if (code === 2) throw new Error(`${args.join(' ')}: ${err}`);
      return JSON.parse(out) as T;
    },
    end: () => warm.end(),
    async remove() {
      try {
        await warm.end();
      } finally {
        await project.remove();
      }
    },
  };
}

/** The entity of the data source files, as an `EntitySchema`. */
export const PARCEL = {
  name: 'Parcel',
  tableName: 'cli_parcel',
  columns: {
    id: { type: 'int', primary: true, generated: 'increment' },
    name: { type: 'varchar', length: 50 },
    customerId: { type: 'varchar', length: 50 },
  },
} as const;

/** The entry of the entity in `forFeature()`, as source text. */
const FEATURE = "{ entity: Parcel, owner: 'customerId' }";

/**
 * The text of a data source file.
 *
 * @param database options of the data source
 * @param webhooks more of the export `webhooks`, as source text
 */
export function dataSourceFile(database: object, webhooks = '', feature = FEATURE): string {
  return `import { DataSource, EntitySchema } from 'typeorm';
const Parcel = new EntitySchema(${JSON.stringify(PARCEL)});
export const dataSource = new DataSource({ ...${JSON.stringify(database)}, entities: [Parcel], synchronize: true, logging: true });
export const webhooks = {
  entities: [${feature}],
  publishedTypes: ['invoice.overdue'],
  security: { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true },
  ${webhooks}
};
`;
}
