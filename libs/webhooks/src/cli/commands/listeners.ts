import { Option, type Command } from 'commander';
import type { CreateListenerInput, Listener, ListenerWithSecret } from '../../listeners/listener.js';
import { LATEST } from '../../events/payload-pins.js';
import { duration, names, typeVersion } from '../terminal/arguments.js';
import type { CommandServices } from '../services/command-services.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { jsonObject } from '../terminal/contents.js';
import { print, printPage, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { filterOf, withId, withJsonOption, withPageOptions, withSourceOptions, type PageOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

/** `listeners`: list, show, create, enable, disable, rotate. */
export function addListeners(program: Command, cli: Cli): void {
  const listeners = program.command('listeners').description('Lists, shows, creates and changes listeners.');
  addList(listeners, cli);
  addCreate(listeners, cli);
  const of = (name: string, description: string) => withId(listeners, name, description, 'lst_…');
  of('show', 'Shows one listener.').action(
    handler(cli, (id: string, options: Common) => showResult(cli, options, ({ listeners: all }) => all.get(id))),
  );
  of('enable', 'Enables a disabled listener.')
    .option('--discard-held', 'discard the deliveries that were held, instead of sending them')
    .action(
      handler(cli, (id: string, options: Common & { discardHeld?: boolean }) =>
        showResult(cli, options, ({ listeners: all }) =>
          all.enable(id, { held: options.discardHeld ? 'discard' : 'release' }),
        ),
      ),
    );
  of('disable', 'Disables a listener. Its deliveries are held until you enable it.')
    .option('--reason <text>', 'why; the owner sees it')
    .action(
      handler(cli, (id: string, options: Common & { reason?: string }) =>
        showResult(cli, options, ({ listeners: all }) => all.disable(id, options.reason)),
      ),
    );
  of('rotate', 'Replaces the secret of a listener, and prints the new one.')
    .option('--overlap <duration>', 'how long the old secret also signs; 0s after a leak', duration)
    .option('--secret <secret>', 'the new secret; otherwise a random one')
    .action(handler(cli, (id: string, options: RotateOptions) => rotate(cli, id, options)));
}

interface ListOptions extends PageOptions {
  readonly owner?: string;
  readonly state?: Listener['state'];
}

function addList(listeners: Command, cli: Cli): void {
  const command = listeners
    .command('list')
    .description('Lists listeners, the newest first.')
    .option('--owner <owner>', 'only listeners of this owner')
    .addOption(new Option('--state <state>', 'only in this state').choices(['active', 'pending', 'disabled']));
  withPageOptions(command).action(handler(cli, (options: ListOptions) => list(cli, options)));
}

async function list(cli: Cli, options: ListOptions): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, options, async ({ listeners }) => {
    printPage(cli.terminal, await listeners.list(filterOf(options)), {
      json: options.json,
      header: ['ID', 'STATE', 'OWNER', 'EVENTS', 'URL'],
      rowOf: (one) => [one.id, one.state, one.owner, one.events.join(','), one.url],
      name: 'listeners',
    });
    return 0;
  });
}

interface CreateOptions extends Common {
  readonly url: string;
  readonly events?: string[];
  readonly entity?: string;
  readonly where?: string;
  readonly owner?: string;
  readonly name?: string;
  readonly secret?: string;
  readonly schemes?: string[];
  readonly format?: string;
  readonly pin?: Readonly<Record<string, number>>;
  readonly latest?: boolean;
  readonly externalId?: string;
}

function addCreate(listeners: Command, cli: Cli): void {
  const command = listeners
    .command('create')
    .description('Creates a listener, and prints its secret. No other command shows the secret.')
    .requiredOption('--url <url>', 'where webhooks are sent')
    .option('--events <types>', "event types, such as 'order.updated,user.*'", names)
    .option('--entity <name>', 'all events of this entity')
    .option('--where <json>', 'a filter, such as \'{"status":{"changedTo":"paid"}}\', or @file')
    .option('--owner <owner>', 'the customer; without it, the listener belongs to the application')
    .option('--name <text>', 'a name for lists')
    .option('--secret <secret>', 'the secret; otherwise a random one')
    .option('--schemes <names>', "signature schemes, such as 'standard,stripe'", names)
    .option('--format <name>', 'the payload format')
    .option('--pin <type=version>', "a version of a type, such as 'order.updated=1'; may be repeated", typeVersion)
    .addOption(new Option('--latest', 'always the newest version of every type').conflicts('pin'))
    .option('--external-id <id>', 'the id in another system');
  withJsonOption(withSourceOptions(command)).action(handler(cli, (options: CreateOptions) => create(cli, options)));
}

async function create(cli: Cli, options: CreateOptions): Promise<ExitCode> {
  const { json, dataSource: _, api: __, token: ___, where, pin, latest, ...given } = options;
  const versions = latest ? LATEST : pin;
  const input = {
    ...given,
    ...(where === undefined ? {} : { where: await jsonObject('--where', where) }),
    ...(versions === undefined ? {} : { versions }),
  };
  return withCommandServices<ExitCode>(cli, options, async ({ listeners, assertCanSeal }) => {
    await assertCanSeal();
    const created = await listeners.create(input as CreateListenerInput);
    return show(cli, created, json);
  });
}

interface RotateOptions extends Common {
  readonly overlap?: number;
  readonly secret?: string;
}

async function rotate(cli: Cli, id: string, { overlap, secret, ...options }: RotateOptions): Promise<ExitCode> {
  return showResult(cli, options, async ({ listeners, assertCanSeal }) => {
    await assertCanSeal();
    return listeners.rotateSecret(id, {
      ...(overlap === undefined ? {} : { overlapMs: overlap }),
      ...(secret === undefined ? {} : { secret }),
    });
  });
}

async function showResult(
  cli: Cli,
  { json, ...source }: Common,
  work: (services: CommandServices) => Promise<Listener>,
): Promise<ExitCode> {
  return withCommandServices(cli, source, async (services) => show(cli, await work(services), json));
}

function show({ terminal }: Cli, listener: Listener | ListenerWithSecret, json: boolean | undefined): ExitCode {
  const rows: Cell[][] = [];
  // The secret is in the result of `create` and `rotate` only.
  for (const [name, value] of Object.entries(listener)) {
    const isEmpty = value === null || ['""', '[]', '{}'].includes(JSON.stringify(value));
    if (!isEmpty) rows.push([name, textOf(value)]);
  }
  print(terminal, listener, { json, rows });
  return 0;
}

function textOf(value: unknown): Cell {
  if (value instanceof Date) return value;
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value.join(', ');
  return typeof value === 'object' ? JSON.stringify(value) : (value as Cell);
}
