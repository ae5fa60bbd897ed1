import { Option, type Command } from 'commander';
import type { Statistics, StatsBy, StatsPoint, StatsStep } from '../../system/statistics.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { pastTime } from '../terminal/arguments.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { print, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption, withSourceOptions } from './options.js';

const STEPS: readonly StatsStep[] = ['1m', '5m', '1h', '1d'];
const BYS: readonly StatsBy[] = ['outcome', 'listener', 'type', 'error'];
/** The name of the first column. By outcome, each line is a step of time. */
const KEY_NAMES: Readonly<Record<StatsBy, string>> = {
  outcome: 'TIME',
  listener: 'LISTENER',
  type: 'TYPE',
  error: 'ERROR',
};

interface Options extends SourceOptions, ResultOptions {
  readonly since?: Date;
  readonly until?: Date;
  readonly step?: StatsStep;
  readonly by: StatsBy;
}

/** `stats`: attempts over time. */
export function addStats(program: Command, cli: Cli): void {
  const command = program
    .command('stats')
    .description('Counts attempts over time, of all listeners or of one. Steps without attempts are not printed.')
    .argument('[listener]', 'lst_…')
    .option('--since <time>', 'only from this time on, such as 6h ago; by default 24h', pastTime)
    .option('--until <time>', 'only before this time', pastTime)
    .addOption(new Option('--step <step>', 'the time of a line').choices(STEPS))
    .addOption(
      new Option('--by <what>', 'listener, type, error: one line for each of the most frequent')
        .choices(BYS)
        .default('outcome'),
    );
  withJsonOption(withSourceOptions(command)).action(
    handler(cli, (listener: string | undefined, options: Options) => stats(cli, listener, options)),
  );
}

async function stats(cli: Cli, id: string | undefined, { json, by, ...options }: Options): Promise<ExitCode> {
  const { dataSource: _, api: __, token: ___, ...range } = options;
  return withCommandServices<ExitCode>(cli, options, async ({ listeners, system }) => {
    const asked = { ...range, by };
    const statistics =
      id === undefined ? await system.statistics(asked) : await system.statisticsOf(await listeners.get(id), asked);
    const names = ['ACCEPTED', 'REJECTED', 'UNREACHABLE', 'BLOCKED'];
    const header = [KEY_NAMES[by], ...names, ...(by === 'outcome' ? ['P50 MS', 'P95 MS'] : [])];
    const rows = by === 'outcome' ? stepsOf(statistics) : sumsOf(statistics);
    print(cli.terminal, statistics, { json, header, rows });
    if (!json && !rows.length) cli.terminal.err('There were no attempts in this time.');
    return 0;
  });
}

function stepsOf({ series }: Statistics): Cell[][] {
  const points = series.flatMap((one) => one.points).filter((point) => countsOf(point).some((count) => count > 0));
  return points.map(([startsAt, ...figures]) => [new Date(startsAt), ...figures]);
}

function sumsOf({ series }: Statistics): Cell[][] {
  return series.map(({ key, points }) => {
    const sums = [0, 0, 0, 0];
    for (const point of points) for (const [n, count] of countsOf(point).entries()) sums[n] = (sums[n] ?? 0) + count;
    return [key, ...sums];
  });
}

function countsOf([, accepted, rejected, unreachable, blocked]: StatsPoint): number[] {
  return [accepted, rejected, unreachable, blocked];
}
