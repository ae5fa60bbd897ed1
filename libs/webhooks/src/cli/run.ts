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

Manages the triggers of entities with capture: 'trigger'.

  --print        prints the SQL that --install would run
  --install      installs, replaces and drops triggers so that they fit the entities
  --check        lists triggers that are missing, out of date or not needed; exits with 1 if
                 there are any
  -d, --data-source
                 a module that exports your DataSource, as for the TypeORM CLI; TypeScript if
                 the project has ts-node or tsx

The module may also export \`webhooks\`: { tablePrefix, tableSchema, capture, entities }, with the values of WebhooksModule.`;

const NO_ENTITIES =
  'Only Nest sees the entities of TypeOrmModule.forFeature([...]) and autoLoadEntities. Name your entities in the DataSource, for example entities: [Order] or ["dist/**/*.entity.js"], which the TypeORM CLI also needs for migrations. Name entities without @Webhook() in the export `webhooks`.';
const NO_CAPTURE =
  "If WebhooksModule.forRoot() sets it, the file must export it, too: export const webhooks = { capture: 'trigger' }.";

/** The output of a command. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

const ACTIONS = ['print', 'install', 'check'] as const;

/** Runs a command line. @returns the exit code: 0; 1 if a check found something; 2 if the command failed */
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
      // Without this error, "nothing to do" would look like success, although the application would not start.
      if (!all) throw new Error(`The DataSource of ${file} has no entity with webhooks. ${NO_ENTITIES}`);
      if (!byTrigger) terminal.err(`No entity in ${file} has capture: 'trigger'. ${NO_CAPTURE}`);
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
    if (!statements.length) out('-- The triggers are up to date.');
    // The MySQL client ends a statement at the first semicolon, also inside a trigger.
    else if (dialectOf(dataSourceOf(runner).options.type) === 'mysql') {
      out(`DELIMITER $$\n${statements.map((statement) => `${statement}$$`).join('\n')}\nDELIMITER ;`);
    } else for (const statement of statements) out(`${statement};`);
    return 0;
  },

  async install(runner, options, { out }) {
    const statements = await inTransaction(runner, () => installTriggers(runner, options));
    if (!statements.length) out('The triggers are up to date.');
    for (const statement of statements) out(firstLine(statement));
    return 0;
  },

  async check(runner, options, { out, err }) {
    const { missing, outdated, left } = await reportTriggers(runner, options);
    const print = (finding: string, { table, name }: { table: string | null; name: string }) =>
      err(`${finding}: ${name}${table === null ? '' : ` on ${table}`}`);
    for (const object of missing) print('missing', object);
    for (const object of outdated) print('out of date', object);
    for (const object of left) print('not needed', object);
    if (missing.length + outdated.length + left.length) return 1;
    out('The triggers are up to date.');
    return 0;
  },
};

/** Runs in a transaction, except on MySQL and MariaDB, which commit each trigger definition immediately. */
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
  // The command must not change the schema, run migrations or run subscribers of the application.
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
