import type { QueryRunner } from 'typeorm';
import { dialectOf } from '../../dialect.js';
import { countEntities, installTriggers, printTriggers, reportTriggers } from '../../migrations/triggers.js';
import { dataSourceOf } from '../../typeorm-compat.js';
import type { WebhooksExport } from '../data-source/load-data-source.js';
import { noEntities } from '../data-source/no-entities.js';
import { withDataSource, withRunner } from '../data-source/open-data-source.js';
import { print } from '../terminal/table.js';
import type { ExitCode, Terminal } from '../terminal/terminal.js';

const NO_CAPTURE =
  "If WebhooksModule.forRoot() sets this mode, the file must export it, too: export const webhooks = { capture: 'trigger' }.";

/** The options of the command `triggers`. */
export type TriggerAction = 'print' | 'install' | 'check';

interface Output {
  readonly terminal: Terminal;
  readonly json: boolean | undefined;
}

/** Runs the command `triggers` on the data source of a file. */
export function runTriggers(action: TriggerAction, given: string | undefined, output: Output): Promise<ExitCode> {
  return withDataSource(given, async ({ file, dataSource, options }) => {
    const { all, byTrigger } = await countEntities(dataSource, options);
    // Without this error, "nothing to do" would look like success, although the application would not start.
    if (!all) throw noEntities(file);
    if (!byTrigger) output.terminal.err(`No entity in ${file} has capture: 'trigger'. ${NO_CAPTURE}`);
    return withRunner(dataSource, (runner) => RUN[action](runner, options, output));
  });
}

const RUN: Readonly<
  Record<TriggerAction, (runner: QueryRunner, webhooks: WebhooksExport, to: Output) => Promise<ExitCode>>
> = {
  async print(runner, webhooks, { terminal, json }) {
    const statements = await printTriggers(runner, webhooks);
    if (json) terminal.out(JSON.stringify(statements, null, 2));
    else if (!statements.length) terminal.out('-- The triggers are up to date.');
    else for (const line of scriptOf(statements, runner)) terminal.out(line);
    return 0;
  },

  async install(runner, webhooks, { terminal, json }) {
    const statements = await inTransaction(runner, () => installTriggers(runner, webhooks));
    const rows = statements.length ? statements.map((one) => [firstLine(one)]) : [['The triggers are up to date.']];
    print(terminal, { statements }, { json, rows });
    return 0;
  },

  async check(runner, webhooks, { terminal, json }) {
    const { missing, outdated, left } = await reportTriggers(runner, webhooks);
    const found = [
      ...missing.map((object) => ({ finding: 'missing', ...nameOf(object) })),
      ...outdated.map((object) => ({ finding: 'out of date', ...nameOf(object) })),
      ...left.map((object) => ({ finding: 'not needed', ...nameOf(object) })),
    ];
    const rows = found.map(({ finding, name, table }) => [
      `${finding}: ${name}${table === null ? '' : ` on ${table}`}`,
    ]);
    print(terminal, found, { json, rows: rows.length ? rows : [['The triggers are up to date.']] });
    return found.length ? 1 : 0;
  },
};

function nameOf({ table, name }: { readonly table: string | null; readonly name: string }) {
  return { name, table };
}

function scriptOf(statements: readonly string[], runner: QueryRunner): string[] {
  // The MySQL client ends a statement at the first semicolon, even inside a trigger.
  if (dialectOf(dataSourceOf(runner).options.type) !== 'mysql') return statements.map((statement) => `${statement};`);
  return ['DELIMITER $$', ...statements.map((statement) => `${statement}$$`), 'DELIMITER ;'];
}

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

function firstLine(statement: string): string {
  const withoutMark = statement.replaceAll(/\/\* nestjs-entity-webhooks [0-9a-f]+ \*\/ ?/g, '');
  return withoutMark.split('\n')[0] ?? '';
}
