import type { Command } from 'commander';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { pastTime, wholeNumber } from '../terminal/arguments.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption, withSourceOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

interface ListOptions extends Common {
  readonly type?: string;
  readonly owner?: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly limit: number;
  readonly cursor?: string;
}

/** `events`: list, show. */
export function addEvents(program: Command, cli: Cli): void {
  const events = program.command('events').description('Looks into the stored events.');
  const list = events
    .command('list')
    .description('Lists events, the newest first.')
    .option('--type <type>', 'only of this event type')
    .option('--owner <owner>', 'only of this owner')
    .option('--since <time>', 'only from this time on, such as 24h ago', pastTime)
    .option('--until <time>', 'only before this time', pastTime)
    .option('--limit <count>', 'how many', wholeNumber(1, 500), 50)
    .option('--cursor <cursor>', 'continue after the last page');
  withJsonOption(withSourceOptions(list)).action(handler(cli, (options: ListOptions) => listEvents(cli, options)));
  const show = events.command('show').description('Shows an event with its data.').argument('<id>', 'evt_…');
  withJsonOption(withSourceOptions(show)).action(
    handler(cli, (id: string, options: Common) => showEvent(cli, id, options)),
  );
}

async function listEvents(cli: Cli, options: ListOptions): Promise<ExitCode> {
  const { json, dataSource: _, api: __, token: ___, ...filter } = options;
  return withCommandServices<ExitCode>(cli, options, async ({ events }) => {
    const page = await events.list(filter);
    const rows = page.items.map(({ id, state, type, owner, timestamp }) => [id, state, type, owner, timestamp]);
    print(cli.terminal, page, { json, header: ['ID', 'STATE', 'TYPE', 'OWNER', 'TIME'], rows });
    if (!json && !page.items.length) cli.terminal.err('There are no such events.');
    if (!json && page.next !== null) cli.terminal.err(`There are more: --cursor ${page.next}`);
    return 0;
  });
}

async function showEvent(cli: Cli, id: string, { json, ...source }: Common): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ events }) => {
    const { data, previous, context, droppedFields, test, ...event } = await events.get(id);
    const rows: [string, string][] = Object.entries({ data, previous, context }).flatMap(([name, value]) =>
      value === null ? [] : [[name, JSON.stringify(value)] satisfies [string, string]],
    );
    const shown = (['id', 'type', 'timestamp', 'owner', 'state'] as const).map((name) => [name, event[name]] as const);
    const dropped = droppedFields.length ? [['dropped', droppedFields.join(', ')]] : [];
    print(
      cli.terminal,
      { ...event, test, data, previous, droppedFields, context },
      { json, rows: [...shown, ...dropped, ...rows] },
    );
    return 0;
  });
}
