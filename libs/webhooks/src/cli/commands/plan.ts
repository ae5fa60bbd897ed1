import { InvalidArgumentError, type Command } from 'commander';
import type { Plan } from '../../plan/plan.js';
import type { Workload } from '../../plan/workload.js';
import { duration, wholeNumber } from '../terminal/arguments.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { shownDuration } from '../terminal/durations.js';
import { grouped, print, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption } from './options.js';

interface Options extends ResultOptions {
  readonly events: number;
  readonly listeners: number;
  readonly fanOut?: number;
  readonly payload?: number;
  readonly burst?: number;
  readonly answer?: number;
  readonly slow?: number;
  readonly slowAnswer?: number;
  readonly failing?: number;
  readonly silent?: number;
  readonly outage?: number;
  readonly outageShare?: number;
  readonly retention?: number;
  readonly cores?: number;
  readonly concurrency?: number;
  readonly figures?: boolean;
}

/** `plan`: what a number of events and listeners needs. */
export function addPlan(program: Command, cli: Cli): void {
  const command = program
    .command('plan')
    .description(
      'Says what your events and listeners need: processes, cores, log, disk, delays, catch-up. Uses no database.',
    )
    .requiredOption('--events <number>', 'events a second, on average', number(0.001, 1e6))
    .requiredOption('--listeners <number>', 'listeners', wholeNumber(1, 1e8))
    .option('--fan-out <number>', 'listeners that an event matches, on average; by default 1', number(0, 1_000))
    .option('--payload <bytes>', 'size of an event; by default 1024', wholeNumber(1, 4_194_304))
    .option('--burst <factor>', 'events of the busiest seconds, divided by the average; by default 1', number(1, 1_000))
    .option('--answer <duration>', 'time until a receiver answers; by default 100ms', duration)
    .option('--slow <share>', 'share of slow receivers; by default 0.01', shareOfOne)
    .option('--slow-answer <duration>', 'time until a slow receiver answers; by default 5s', duration)
    .option('--failing <share>', 'share of receivers that always answer with an error; by default 0.01', shareOfOne)
    .option('--silent <share>', 'share of receivers that never answer; by default 0.001', shareOfOne)
    .option('--outage <duration>', 'how long some receivers are out; by default 6h', duration)
    .option('--outage-share <share>', 'share of these receivers; by default 0.1', shareOfOne)
    .option('--retention <duration>', 'how long succeeded deliveries are kept; by default 30d', duration)
    .option('--cores <number>', 'cores of your database; by default as many as needed', wholeNumber(1, 1_024))
    .option(
      '--concurrency <number>',
      'slots of a process; by default as many as needed, and at least 64',
      wholeNumber(1, 10_000),
    )
    .option('--figures', 'also print the figures behind the plan, and the command that measured each');
  withJsonOption(command).action(handler(cli, (options: Options) => plan(cli, options)));
}

async function plan(cli: Cli, options: Options): Promise<ExitCode> {
  // The simulation is loaded only for this command.
  const { planFor } = await import('../../plan/plan.js');
  const { USUAL_WORKLOAD } = await import('../../plan/workload.js');
  const workload = workloadOf(options, USUAL_WORKLOAD);
  if (workload.failing + workload.silent + workload.slow > 1)
    throw argumentError('--failing, --silent and --slow are shares of all receivers. Their sum must be at most 1.');
  const result = planFor(workload);
  print(cli.terminal, result, { json: options.json, rows: [...rowsOf(result), ...adviceOf(result)] });
  if (options.figures && !options.json) print(cli.terminal, null, { json: false, rows: figuresOf(result) });
  return result.problems.length ? 1 : 0;
}

type Usual = typeof import('../../plan/workload.js').USUAL_WORKLOAD;

function workloadOf(options: Options, usual: Usual): Workload {
  return {
    eventsPerSecond: options.events,
    listeners: options.listeners,
    fanOut: options.fanOut ?? usual.fanOut,
    payloadBytes: options.payload ?? usual.payloadBytes,
    burst: options.burst ?? usual.burst,
    answerMs: options.answer ?? usual.answerMs,
    slow: options.slow ?? usual.slow,
    slowAnswerMs: options.slowAnswer ?? usual.slowAnswerMs,
    failing: options.failing ?? usual.failing,
    silent: options.silent ?? usual.silent,
    outageMs: options.outage ?? usual.outageMs,
    outageShare: options.outageShare ?? usual.outageShare,
    retentionMs: options.retention ?? usual.retentionMs,
    databaseCores: options.cores ?? usual.databaseCores,
    concurrency: options.concurrency ?? usual.concurrency,
  };
}

function rowsOf(plan: Plan): Cell[][] {
  const { outage, workload, delayMs } = plan;
  const catchUp = outage.catchUpMs === null ? 'never' : shownDuration(outage.catchUpMs);
  const outRows: Cell[][] = workload.outageMs
    ? [
        ['outage', `${shownDuration(workload.outageMs)} of ${percent(workload.outageShare)} of the receivers`],
        [
          '  waiting at its end',
          `${grouped(outage.backlog)} deliveries, after ${grouped(outage.failedAttempts)} failed attempts`,
        ],
        ['  catch-up', `${catchUp}; the last retry comes ${shownDuration(outage.lastRetryMs)} after the outage`],
      ]
    : [];
  return [
    [
      'processes',
      `${plan.processes} with ${plan.concurrency} slots each, which use ${cores(plan.senderCores)} and ${size(plan.memoryBytes)} of memory at most`,
    ],
    [
      'database',
      `${plan.databases === 1 ? '' : `${plan.databases} with `}${plan.databaseCores} cores; webhooks use ${cores(plan.databaseCoresUsed)}`,
    ],
    ['connections', plan.connections],
    ['requests', `${grouped(Math.round(plan.attemptsPerSecond))} a second, in ${grouped(Math.ceil(plan.slots))} slots`],
    ['row writes', `${grouped(Math.round(plan.rowWritesPerSecond))} a second`],
    ['write-ahead log', `${size(plan.logBytesPerSecond)} a second, ${size(plan.logBytesPerDay)} a day`],
    ['disk', `${size(plan.diskBytes)} after ${shownDuration(workload.retentionMs)}`],
    ['delay', `p50 ${shownDuration(delayMs.p50)}, p99 ${shownDuration(delayMs.p99)}, from the commit to the request`],
    ...outRows,
    ['engine', `${plan.engine.engine}: ${plan.engine.why}`],
  ];
}

function adviceOf({ advice, problems }: Plan): Cell[][] {
  return [
    ...problems.map((problem): Cell[] => ['problem', problem]),
    ...advice.map(({ step, why }): Cell[] => ['step', `${step}: ${why}`]),
  ];
}

function figuresOf({ figures }: Plan): Cell[][] {
  return Object.values(figures).map(({ value, unit, what, measuredBy, because }) => [
    `${value} ${unit}`,
    what,
    measuredBy === null ? `assumed: ${because}` : `measured: ${measuredBy}`,
  ]);
}

const SIZES = ['bytes', 'KB', 'MB', 'GB', 'TB', 'PB'] as const;

/** 1,129,000,000 -> `1.13 GB`. */
function size(bytes: number): string {
  const step = bytes < 1 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${Number((bytes / 1_000 ** step).toPrecision(3))} ${SIZES[step]}`;
}

function cores(count: number): string {
  return count < 0.01 ? 'less than 0.01 cores' : `${Number(count.toPrecision(2))} cores`;
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

/** A parser for numbers of a range. */
function number(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+(\.\d+)?$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Allowed: a number from ${least} to ${most}.`);
  };
}

/** `0.02` or `2%` as 0.02. */
function shareOfOne(text: string): number {
  const [, digits, sign] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text) ?? [];
  const value = Number(digits) / (sign === '%' ? 100 : 1);
  if (digits !== undefined && value <= 1) return value;
  throw new InvalidArgumentError('Allowed: a share from 0 to 1, such as 0.02 or 2%.');
}
