import { Option, type Command } from 'commander';
import type { SupportedDriver } from '../../dialect.js';
import type { WebhookMigrationsOptions } from '../../store/database/table-names.js';
import type { DataSource } from '../../typeorm-compat.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { wholeNumber } from '../terminal/arguments.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withDataSourceOption, withJsonOption, type DataSourceOptions } from './options.js';

interface MigrateOptions extends DataSourceOptions, ResultOptions {
  readonly to?: number;
  readonly dryRun?: boolean;
  readonly partitions?: 'day';
}

/** The shape of tables that do not exist yet. */
function partitionsOption(): Option {
  return new Option('--partitions <by>', 'PostgreSQL: make new tables with a partition for each day').choices(['day']);
}

/** `migrate`: runs our migrations, and no other. */
export function addMigrate(program: Command, cli: Cli): void {
  const command = program
    .command('migrate')
    .description('Creates or updates the webhook tables. Runs the migrations of this library only.')
    .option('--to <version>', 'stop at this version of the tables', wholeNumber(1, 9_999))
    .addOption(partitionsOption())
    .option('--dry-run', 'print the SQL without running it');
  withJsonOption(withDataSourceOption(command)).action(
    handler(cli, (options: MigrateOptions) => migrate(cli, options)),
  );
}

async function migrate(
  { terminal }: Cli,
  { dataSource: file, to, dryRun, partitions, json }: MigrateOptions,
): Promise<ExitCode> {
  const { load, connect } = await import('../data-source/open-data-source.js');
  const { migrationDataSource, migrationsTo, nameOf, pendingMigrations, statementsOf } =
    await import('../data-source/migrations.js');
  const { dataSource, resolved } = await load(file);
  const ours = migrationDataSource(dataSource, migrationsTo({ ...resolved, partitions }, to));
  await connect(ours);
  try {
    const pending = await pendingMigrations(ours);
    if (dryRun) {
      const statements = await statementsOf(ours, pending);
      printStatements(terminal.out, statements, json);
      return 0;
    }
    if (pending.length) await ours.runMigrations({ transaction: 'each' });
    const ran = pending.map(nameOf);
    const rows = ran.length ? ran.map((name) => [`ran ${name}`]) : [['The webhook tables are up to date.']];
    print(terminal, { ran }, { json, rows });
    return 0;
  } finally {
    await ours.destroy();
  }
}

/** The type of data source for which `--dialect` prints SQL. */
const DRIVERS = { postgres: 'postgres', mysql: 'mysql', mariadb: 'mariadb', sqlite: 'better-sqlite3' } as const;

interface SqlOptions extends DataSourceOptions, ResultOptions {
  readonly to?: number;
  readonly dialect?: keyof typeof DRIVERS;
  readonly prefix?: string;
  readonly partitions?: 'day';
}

/** `sql`: prints the SQL of our migrations, for people who run it by hand. */
export function addSql(program: Command, cli: Cli): void {
  const command = program
    .command('sql')
    .description('Prints the SQL that creates the webhook tables, for a database without them. Needs no connection.')
    .addOption(
      new Option('--dialect <name>', 'the database, if not that of the data source').choices(Object.keys(DRIVERS)),
    )
    .addOption(partitionsOption())
    .option('--prefix <text>', 'the prefix of the tables, if there is no data source')
    .option('--to <version>', 'stop at this version of the tables', wholeNumber(1, 9_999));
  withJsonOption(withDataSourceOption(command)).action(handler(cli, (options: SqlOptions) => sql(cli, options)));
}

async function sql(
  { terminal }: Cli,
  { dataSource: file, dialect, prefix, partitions, to, json }: SqlOptions,
): Promise<ExitCode> {
  if (file === undefined && dialect === undefined)
    throw argumentError('Give -d <data-source file> or --dialect <name>.');
  const { load } = await import('../data-source/open-data-source.js');
  const { migrationDataSource, migrationsTo, statementsOf } = await import('../data-source/migrations.js');
  const loaded = file === undefined ? undefined : await load(file);
  const at: WebhookMigrationsOptions = {
    ...loaded?.resolved,
    partitions,
    ...(prefix === undefined ? {} : { tablePrefix: prefix }),
  };
  const options = {
    ...loaded?.dataSource.options,
    ...(dialect === undefined ? {} : { type: DRIVERS[dialect] satisfies SupportedDriver }),
    ...(dialect === 'sqlite' ? { database: ':memory:' } : {}),
  };
  const ours = migrationDataSource({ options } as DataSource, []);
  const migrations = migrationsTo(at, to).map((Migration) => new Migration());
  printStatements(terminal.out, await statementsOf(ours, migrations), json);
  return 0;
}

function printStatements(out: (text: string) => void, statements: readonly string[], json: boolean | undefined): void {
  if (json) out(JSON.stringify(statements, null, 2));
  else if (!statements.length) out('-- The webhook tables are up to date.');
  else for (const statement of statements) out(`${statement.trimEnd()};`);
}
