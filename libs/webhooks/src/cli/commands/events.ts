import type { Command } from 'commander';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { pastTime } from '../terminal/arguments.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { print, printPage } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { filterOf, withId, withPageOptions, type PageOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

interface ListOptions extends PageOptions {
  readonly type?: string;
  readonly owner?: string;
  readonly since?: Date;
  readonly until?: Date;
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
    .option('--until <time>', 'only before this time', pastTime);
  withPageOptions(list).action(handler(cli, (options: ListOptions) => listEvents(cli, options)));
  withId(events, 'show', 'Shows an event with its data.', 'evt_…').action(
    handler(cli, (id: string, options: Common) => showEvent(cli, id, options)),
  );
}

async function listEvents(cli: Cli, options: ListOptions): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, options, async ({ events }) => {
    const page = await events.list(filterOf(options));
    printPage(cli.terminal, page, {
      json: options.json,
      header: ['ID', 'STATE', 'TYPE', 'OWNER', 'TIME'],
      rowOf: ({ id, state, type, owner, timestamp }) => [id, state, type, owner, timestamp],
      name: 'events',
    });
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
