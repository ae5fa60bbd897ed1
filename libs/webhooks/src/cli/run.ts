import { parseArgs } from 'node:util';
import type { DataSource, QueryRunner } from 'typeorm';
import {
  countEntities,
  installTriggers,
  printTriggers,
  reportTriggers,
  type TriggerOptions,
} from '../migrations/triggers.js';
import { dialectOf } from '../dialect.js';
import { loadDataSource } from './load-data-source.js';
import { messageOf } from '../foreign-text.js';
import { dataSourceOf } from '../typeorm-compat.js';
import { assertSupportedTypeorm } from '../typeorm-version.js';

const USAGE = `Usage: npx nestjs-entity-webhooks triggers --print|--install|--check -d <data-source file>

The triggers of entities with capture: 'trigger'.

  --print        the SQL that --install would run
  --install      makes the triggers what the entities need; does nothing where they are
  --check        says what is missing or out of date, and ends with 1 when anything is
  -d, --data-source
                 a module that exports your DataSource, as for the TypeORM CLI; TypeScript if
                 the project has ts-node or tsx

Beside the DataSource the module may export \`webhooks\`: { tablePrefix, tableSchema, capture, entities }, as WebhooksModule has them.`;

const NO_ENTITIES =
  'What TypeOrmModule.forFeature([...]) and autoLoadEntities add, Nest alone knows: name the entities in the DataSource, as the TypeORM CLI needs them for migrations too, for example entities: [Order] or ["dist/**/*.entity.js"]; and those without @Webhook() in the export `webhooks`.';
const NO_CAPTURE =
  "When WebhooksModule.forRoot() says it, so must the file: export const webhooks = { capture: 'trigger' }.";

/** Where a command writes to. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

const ACTIONS = ['print', 'install', 'check'] as const;

/** Runs a command line. @returns the exit code: 0, 1 when a check found something, 2 when it could not run */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        print: { type: 'boolean', default: false },
        install: { type: 'boolean', default: false },
        check: { type: 'boolean', default: false },
        'data-source': { type: 'string', short: 'd' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      terminal.out(USAGE);
      return 0;
    }
    const [action, ...others] = ACTIONS.filter((name) => values[name]);
    const file = values['data-source'];
    if (positionals.join() !== 'triggers' || !action || others.length || file === undefined) {
      terminal.err(USAGE);
      return 2;
    }
    assertSupportedTypeorm();
    const { dataSource, options } = await loadDataSource(file);
    return await onDataSource(dataSource, async (runner) => {
      const { all, byTrigger } = await countEntities(dataSource, options);
      // Nothing to do would look as if all were well, and the application would not start.
      if (!all) throw new Error(`${file} knows no entity with webhooks. ${NO_ENTITIES}`);
      if (!byTrigger) terminal.err(`No entity of ${file} has capture: 'trigger'. ${NO_CAPTURE}`);
      return COMMANDS[action](runner, options, terminal);
    });
  } catch (error) {
    terminal.err(messageOf(error));
    return 2;
  }
}

const COMMANDS: Readonly<
  Record<(typeof ACTIONS)[number], (runner: QueryRunner, options: TriggerOptions, to: Terminal) => Promise<number>>
> = {
  async print(runner, options, { out }) {
    const statements = await printTriggers(runner, options);
    if (!statements.length) out('-- The triggers are as they should be.');
    // The client of MySQL ends a statement at the first semicolon, also within a trigger.
    else if (dialectOf(dataSourceOf(runner).options.type) === 'mysql') {
      out(`DELIMITER $$\n${statements.map((statement) => `${statement}$$`).join('\n')}\nDELIMITER ;`);
    } else for (const statement of statements) out(`${statement};`);
    return 0;
  },

  async install(runner, options, { out }) {
    const statements = await inTransaction(runner, () => installTriggers(runner, options));
    if (!statements.length) out('The triggers are as they should be.');
    for (const statement of statements) out(firstLine(statement));
    return 0;
  },

  async check(runner, options, { out, err }) {
    const { missing, outdated, left } = await reportTriggers(runner, options);
    const say = (what: string, { table, name }: { table: string | null; name: string }) =>
      err(`${what}: ${name}${table === null ? '' : ` on ${table}`}`);
    for (const object of missing) say('missing', object);
    for (const object of outdated) say('out of date', object);
    for (const object of left) say('not needed', object);
    if (missing.length + outdated.length + left.length) return 1;
    out('The triggers are as they should be.');
    return 0;
  },
};

/** All or none, where definitions can be rolled back: MySQL commits each by itself. */
async function inTransaction<T>(runner: QueryRunner, work: () => Promise<T>): Promise<T> {
  if (dialectOf(dataSourceOf(runner).options.type) === 'mysql') return work();
  await runner.startTransaction();
  try {
    const result = await work();
    await runner.commitTransaction();
    return result;
  } catch (error) {
    await runner.rollbackTransaction();
    throw error;
  }
}

async function onDataSource<T>(dataSource: DataSource, work: (runner: QueryRunner) => Promise<T>): Promise<T> {
  // Nothing but what was asked for.
  dataSource.setOptions({ synchronize: false, migrationsRun: false, dropSchema: false, subscribers: [] });
  if (!dataSource.isInitialized) await dataSource.initialize();
  try {
    const runner = dataSource.createQueryRunner('master');
    try {
      return await work(runner);
    } finally {
      await runner.release();
    }
  } finally {
    await dataSource.destroy();
  }
}

function firstLine(statement: string): string {
  const withoutMark = statement.replaceAll(/\/\* nestjs-entity-webhooks [0-9a-f]+ \*\/ ?/g, '');
  return withoutMark.split('\n')[0] ?? '';
}
