import type { Command } from 'commander';
import type { TriggerReport } from '../../capture/triggers/install-triggers.js';
import { DAY, MINUTE } from '../../time.js';
import type {
  DispatcherProcess,
  FailingListenerSummary,
  Sending,
  SystemOverview,
} from '../../system/system-overview.js';
import type { Database } from '../../store/database/database.js';
import type { FailingListener, Overview } from '../../store/queue/overview.js';
import type { LoadedDataSource } from '../data-source/open-data-source.js';
import type { TableState } from '../data-source/table-state.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { shownDuration } from '../terminal/durations.js';
import { duration } from '../terminal/arguments.js';
import { sendingText } from '../terminal/sending-text.js';
import { counted, grouped, print, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { withJsonOption, withSourceOptions } from './options.js';

interface Options extends SourceOptions, ResultOptions {
  readonly watch?: true | number;
}

const WATCH_EVERY_MS = 2_000;
const MAX_FAILING = 20;

/** `status`: what is pending, and what fails. */
export function addStatus(program: Command, cli: Cli): void {
  const command = program
    .command('status')
    .description(
      'Shows the tables, the triggers, the pending work, and which listeners fail. Exits with 1 if the tables or the triggers are not up to date. Over the API: the pending work, and which listeners fail.',
    )
    .option(
      '-w, --watch [interval]',
      'show it again every 2s, or at another interval, until you press Ctrl-C',
      duration,
    );
  withJsonOption(withSourceOptions(command)).action(handler(cli, (options: Options) => status(cli, options)));
}

async function status(cli: Cli, options: Options): Promise<ExitCode> {
  if (options.api !== undefined) return remoteStatus(cli, options);
  const { withDataSource, withTables } = await import('../data-source/open-data-source.js');
  return withDataSource(options.dataSource, (loaded) =>
    withTables(loaded, (database) =>
      watched(cli, options, async () => {
        const report = await readStatus(loaded, database);
        return { report, rows: rowsOf(report), exitCode: report.isReady ? 0 : 1 };
      }),
    ),
  );
}

/** The overview of an application, over its API: what is pending for everybody, or for the owner of the token. */
function remoteStatus(cli: Cli, options: Options): Promise<ExitCode> {
  return withCommandServices(cli, options, ({ system }) =>
    watched(cli, options, async () => {
      const overview = await system.overview();
      return { report: overview, rows: overviewRows(overview, new Date()), exitCode: 0 };
    }),
  );
}

/** Prints a report, once or until Ctrl-C. */
async function watched(
  { terminal }: Cli,
  { watch, json }: Pick<Options, 'watch' | 'json'>,
  read: () => Promise<{ report: object; rows: Cell[][]; exitCode: ExitCode }>,
): Promise<ExitCode> {
  const { pause } = await import('../../time.js');
  for (;;) {
    const { report, rows, exitCode } = await read();
    if (watch !== undefined && terminal.isTerminal) terminal.out(CLEAR_SCREEN);
    print(terminal, report, { json, rows });
    if (watch === undefined) return exitCode;
    await pause(watch === true ? WATCH_EVERY_MS : watch);
  }
}

const CLEAR_SCREEN = '\u001b[2J\u001b[H';

interface StatusReport {
  readonly isReady: boolean;
  readonly tables: TableState;
  readonly triggers: { readonly needed: number; readonly missing: number; readonly outdated: number };
  readonly now: Date;
  readonly waiting: Overview | null;
  readonly sending: Sending | null;
  /** The processes whose dispatcher runs. */
  readonly processes: readonly DispatcherProcess[];
  /** Deliveries that were created in the last 24 hours, by state. */
  readonly lastDay: Readonly<Record<string, number>>;
  readonly failing: readonly FailingListener[];
  /** The number of listeners by the id of the key that sealed a secret; `''` for secrets that are not sealed. */
  readonly sealingKeys: Readonly<Record<string, number>>;
}

async function readStatus(loaded: LoadedDataSource, database: Database): Promise<StatusReport> {
  const { isComplete, tableState } = await import('../data-source/table-state.js');
  const tables = await tableState(database, loaded.resolved.tablePrefix);
  const triggers = countTriggers(tables.missing.length ? NO_TRIGGERS : await readTriggers(loaded));
  const isReady = isComplete(tables) && triggers.missing + triggers.outdated === 0;
  const empty = {
    isReady,
    tables,
    triggers,
    now: new Date(),
    waiting: null,
    sending: null,
    processes: [],
    lastDay: {},
    failing: [],
    sealingKeys: {},
  };
  return tables.missing.length ? empty : { ...empty, ...(await readRows(database)) };
}

const NO_TRIGGERS: TriggerReport & { readonly needed: number } = { needed: 0, missing: [], outdated: [], left: [] };

async function readTriggers({ dataSource, options }: LoadedDataSource) {
  const { countEntities, reportTriggers } = await import('../../migrations/triggers.js');
  const { withRunner } = await import('../data-source/open-data-source.js');
  const { byTrigger } = await countEntities(dataSource, options);
  return { needed: byTrigger, ...(await withRunner(dataSource, (runner) => reportTriggers(runner, options))) };
}

function countTriggers({ needed, missing, outdated }: TriggerReport & { readonly needed: number }) {
  return { needed, missing: missing.length, outdated: outdated.length };
}

async function readRows(database: Database) {
  const { readFailingListeners, readOverview } = await import('../../store/queue/overview.js');
  const { countDeliveries } = await import('../../store/queue/delivery-rows.js');
  const { readProcesses } = await import('../../store/system/processes.js');
  const { readSending } = await import('../../store/system/sending.js');
  const { toProcess, toSending } = await import('../../system/shown-system.js');
  const { readDatabaseTime } = await import('../../store/database/database-time.js');
  const now = await database.single(() => readDatabaseTime(database));
  const since = now - DAY;
  const counts = await database.single(() => countDeliveries(database, { scope: undefined, since }));
  return {
    now: new Date(now),
    waiting: await database.single(() => readOverview(database)),
    sending: toSending(await database.single(() => readSending(database))),
    processes: (await database.single(() => readProcesses(database))).map(toProcess),
    lastDay: Object.fromEntries(counts.map(({ state, count }) => [state, Number(count)])),
    failing: await database.single(() => readFailingListeners(database, MAX_FAILING)),
    sealingKeys: await countKeys(database),
  };
}

async function countKeys(database: Database): Promise<Record<string, number>> {
  const { readListenerSettings } = await import('../../store/queue/overview.js');
  const counts: Record<string, number> = {};
  for (let after = '0'; ;) {
    const from = after;
    const page = await database.single(() => readListenerSettings(database, from));
    for (const { keyIds } of page) for (const id of new Set(keyIds)) counts[id ?? ''] = (counts[id ?? ''] ?? 0) + 1;
    const last = page.at(-1);
    if (!last) return counts;
    after = last.seq;
  }
}

function rowsOf(report: StatusReport): Cell[][] {
  const { tables, triggers, now, waiting, sending, processes, lastDay, failing, sealingKeys } = report;
  const rows: Cell[][] = [
    ['tables', tablesText(tables)],
    ['triggers', triggersText(triggers)],
  ];
  if (!waiting || !sending) return rows;
  const { events, due, oldestDueAt, leased, held, listeners } = waiting;
  const keys = Object.entries(sealingKeys).map(
    ([id, count]) => `${id === '' ? 'not sealed' : `sealed with '${id}'`}: ${counted(count, 'listener')}`,
  );
  const day = Object.entries(lastDay).map(([state, count]) => `${state} ${grouped(count)}`);
  const lag = events.oldestAt === null ? 0 : Math.max(0, now.getTime() - events.oldestAt);
  const isLate = oldestDueAt !== null && oldestDueAt <= now.getTime();
  const oldest = isLate ? `, the oldest waits ${shownDuration(now.getTime() - oldestDueAt)}` : '';
  rows.push(
    ['sending', sendingText(sending)],
    ['processes', processes.length ? processes.map((one) => processText(one, now)).join(', ') : 'none dispatches'],
    ['outbox', `${counted(events.pending, 'event')} not routed yet, lag ${shownDuration(lag)}`],
    ['queue', `due ${grouped(due)}${oldest}; leased ${grouped(leased)}; held ${grouped(held)}`],
    ['last 24 h', day.length ? day.join(', ') : 'no deliveries'],
    [
      'listeners',
      `active ${grouped(listeners.active)}, pending ${grouped(listeners.pending)}, disabled ${grouped(listeners.disabled)}`,
    ],
    ['secrets', keys.length ? keys.join(', ') : 'none'],
  );
  for (const listener of failing) rows.push(['failing', failingText(listener, now.getTime())]);
  return rows;
}

function overviewRows(overview: SystemOverview, now: Date): Cell[][] {
  const { outboxLagMs, queueLagMs, pending, due, retrying, held, exhausted24h, disabled, pause } = overview;
  const late = queueLagMs > 0 ? `, the oldest waits ${shownDuration(queueLagMs)}` : '';
  const rows: Cell[][] = [
    ['sending', pause === null ? 'on' : sendingText({ paused: true, ...pause })],
    ['outbox', `${counted(pending, 'event')} not routed yet, lag ${shownDuration(outboxLagMs)}`],
    ['queue', `due ${grouped(due)}${late}; retrying ${grouped(retrying)}; held ${grouped(held)}`],
    ['last 24 h', `exhausted ${grouped(exhausted24h)}`],
    ['listeners', `disabled ${grouped(disabled)}`],
  ];
  // The API shows no processes to an owner.
  const processes = overview.processes.map((one) => processText(one, now)).join(', ');
  if (processes) rows.splice(1, 0, ['processes', processes]);
  return [...rows, ...overview.failing.map((one) => ['failing', failingText(inMs(one), now.getTime())])];
}

function inMs({ failingSince, pausedUntil, ...listener }: FailingListenerSummary): FailingListener {
  return { ...listener, failingSince: failingSince?.getTime() ?? null, pausedUntil: pausedUntil?.getTime() ?? null };
}

function tablesText({ prefix, missing, missingIndexes, version, known }: TableState): string {
  if (missing.length) return `${prefix}*  ${missing.join(', ')} missing: run migrate`;
  const indexes = missingIndexes.length
    ? `, ${counted(missingIndexes.length, 'index', 'indexes')} missing: run migrate`
    : '';
  return `${prefix}*  version ${version} of ${known}${indexes}`;
}

function triggersText({ needed, missing, outdated }: StatusReport['triggers']): string {
  if (missing + outdated > 0) return `${missing} missing, ${outdated} out of date: run triggers --install`;
  return needed === 0 ? 'none needed' : `current, for ${counted(needed, 'entity', 'entities')}`;
}

function processText({ host, version, seenAt, sending, concurrency }: DispatcherProcess, now: Date): string {
  const silentMs = now.getTime() - seenAt.getTime();
  const silent = silentMs > MINUTE ? `, not seen for ${shownDuration(silentMs)}` : '';
  return `${host} (${version}, ${sending} of ${concurrency} requests${silent})`;
}

function failingText(
  { id, url, state, failingSince, pausedUntil, lastErrorCode }: FailingListener,
  now: number,
): string {
  const since = failingSince === null ? '' : ` for ${shownDuration(now - failingSince)}`;
  const isPaused = pausedUntil !== null && pausedUntil > now;
  const pause = isPaused ? `, next try in ${shownDuration(pausedUntil - now)}` : '';
  return `${id}  ${withoutQuery(url)}  ${lastErrorCode ?? 'fails'}${since}${state === 'active' ? pause : `, ${state}`}`;
}

/** The query of a URL may contain a token. */
function withoutQuery(url: string): string {
  return url.replace(/\?.*$/s, '');
}
