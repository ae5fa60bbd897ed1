import { Option, type Command } from 'commander';
import {
  DELIVERY_STATES,
  type Attempt,
  type Delivery,
  type DeliveryDetails,
  type DeliveryState,
} from '../../deliveries/delivery.js';
import { pastTime } from '../terminal/arguments.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { shownDuration } from '../terminal/durations.js';
import { print, printPage, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { filterOf, withId, withPageOptions, type PageOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

/** `deliveries`: list, show, resend. */
export function addDeliveries(program: Command, cli: Cli): void {
  const deliveries = program
    .command('deliveries')
    .description('Looks into the log of deliveries, and sends one again.');
  addList(deliveries, cli);
  const of = (name: string, description: string) => withId(deliveries, name, description, 'dlv_…');
  of('show', 'Shows a delivery and its attempts, with the answers of the receiver.').action(
    handler(cli, (id: string, options: Common) => show(cli, id, options)),
  );
  of('resend', 'Sends a delivery again, now.').action(
    handler(cli, (id: string, options: Common) => resend(cli, id, options)),
  );
}

interface ListOptions extends PageOptions {
  readonly event?: string;
  readonly listener?: string;
  readonly type?: string;
  readonly state?: DeliveryState;
  readonly owner?: string;
  readonly since?: Date;
  readonly until?: Date;
}

function addList(deliveries: Command, cli: Cli): void {
  const command = deliveries
    .command('list')
    .description('Lists deliveries, the newest first.')
    .option('--event <id>', 'only of this event, evt_…: the webhook-id of its requests')
    .option('--listener <id>', 'only to this listener')
    .option('--type <type>', 'only of this event type')
    .addOption(new Option('--state <state>', 'only in this state').choices(DELIVERY_STATES))
    .option('--owner <owner>', 'only to listeners of this owner')
    .option('--since <time>', 'only from this time on, such as 24h ago', pastTime)
    .option('--until <time>', 'only before this time', pastTime);
  withPageOptions(command).action(handler(cli, (options: ListOptions) => list(cli, options)));
}

async function list(cli: Cli, options: ListOptions): Promise<ExitCode> {
  const { event, listener, ...filter } = filterOf(options);
  return withCommandServices<ExitCode>(cli, options, async ({ deliveries }) => {
    const page = await deliveries.list({
      ...filter,
      ...(event === undefined ? {} : { eventId: event }),
      ...(listener === undefined ? {} : { listenerId: listener }),
    });
    const header = ['ID', 'STATE', 'TYPE', 'ATTEMPTS', 'LAST', 'CREATED', 'EVENT', 'LISTENER'];
    printPage(cli.terminal, page, { json: options.json, header, rowOf, name: 'deliveries' });
    return 0;
  });
}

function rowOf(delivery: Delivery): Cell[] {
  const { id, state, type, attemptCount, lastErrorCode, lastStatus, createdAt, eventId, listenerId } = delivery;
  return [id, state, type, attemptCount, lastOf(lastStatus, lastErrorCode), createdAt, eventId, listenerId];
}

function lastOf(status: number | null, errorCode: string | null): string | null {
  return status === null ? errorCode : String(status);
}

async function show(cli: Cli, id: string, { json, ...source }: Common): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ deliveries }) => {
    const delivery = await deliveries.get(id);
    print(cli.terminal, delivery, { json, rows: [...detailsOf(delivery), ...delivery.attempts.flatMap(attemptRows)] });
    return 0;
  });
}

function detailsOf(delivery: DeliveryDetails): Cell[][] {
  const { attempts: _, context, ...details } = delivery;
  const rows = Object.entries(details).filter(([, value]) => value !== null) as [string, Cell][];
  return [...rows, ...(context === null ? [] : [['context', JSON.stringify(context)]])];
}

function attemptRows(attempt: Attempt): Cell[][] {
  const { number, outcome, status, errorCode, errorDetail, durationMs, response, startedAt, url } = attempt;
  const time = durationMs === null ? '' : ` in ${shownDuration(durationMs)}`;
  const detail = errorDetail === null ? '' : `: ${errorDetail}`;
  return [
    [`attempt ${number}`, `${startedAt.toISOString()} ${outcome} ${lastOf(status, errorCode) ?? ''}${time}${detail}`],
    ...triggerRows(attempt),
    ...(url === null ? [] : [['', `POST ${url}`]]),
    ...headerRows('>', attempt.requestHeaders),
    ...headerRows('<', attempt.responseHeaders),
    ...(attempt.omittedHeaders > 0 ? [['', `(${attempt.omittedHeaders} more headers were not kept)`]] : []),
    ...phaseRows(attempt.phases),
    ...(response === null || response === '' ? [] : [['', response]]),
  ];
}

function triggerRows({ trigger, triggeredBy }: Attempt): Cell[][] {
  if (trigger === 'schedule') return [];
  return [['', triggeredBy === null ? trigger : `${trigger} by ${triggeredBy}`]];
}

function headerRows(mark: string, headers: Attempt['requestHeaders']): Cell[][] {
  return Object.entries(headers ?? {}).map(([name, value]) => ['', `${mark} ${name}: ${value}`]);
}

const PHASE_NAMES = { dnsMs: 'DNS', connectMs: 'connect', tlsMs: 'TLS', firstByteMs: 'first byte' } as const;

/** Missing phases are left out. */
function phaseRows(phases: Attempt['phases']): Cell[][] {
  if (phases === null) return [];
  const connection = phases.connection === 'none' ? 'no connection' : `${phases.connection} connection`;
  const times = Object.entries(PHASE_NAMES).flatMap(([key, name]) => {
    const ms = phases[key as keyof typeof PHASE_NAMES];
    return ms === null ? [] : [`${name} ${shownDuration(ms)}`];
  });
  return [['', [connection, ...times].join(', ')]];
}

async function resend(cli: Cli, id: string, { json, ...source }: Common): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ deliveries }) => {
    const delivery = await deliveries.resend(id);
    print(cli.terminal, delivery, { json, rows: [[delivery.id, `${delivery.state}: a dispatcher sends it now`]] });
    return 0;
  });
}
