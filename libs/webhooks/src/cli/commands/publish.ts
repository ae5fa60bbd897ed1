import type { Command } from 'commander';
import { EVERY_OWNER } from '../../events/webhook-event.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { jsonObject } from '../terminal/contents.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withDataSourceOption, withJsonOption, type DataSourceOptions } from './options.js';

interface Options extends DataSourceOptions, ResultOptions {
  readonly data: string;
  readonly owner?: string;
  readonly everyOwner?: boolean;
  readonly key?: string;
}

/** `publish`: an event of a published type. */
export function addPublish(program: Command, cli: Cli): void {
  const command = program
    .command('publish')
    .description('Publishes an event. Its type must be in `publishedTypes` of the export `webhooks`.')
    .argument('<type>', 'such as invoice.overdue')
    .option('--data <json>', 'the data: a JSON object, @file, or - for the standard input', '{}')
    .option(
      '--owner <owner>',
      "the owner of the event; without it, only the application's own listeners receive the event",
    )
    .option('--every-owner', 'send the event to listeners of every owner')
    .option('--key <text>', 'an idempotency key: a second event with the same key is not stored');
  withJsonOption(withDataSourceOption(command)).action(
    handler(cli, (type: string, options: Options) => publish(cli, type, options)),
  );
}

async function publish(cli: Cli, type: string, options: Options): Promise<ExitCode> {
  const { dataSource, data, owner, everyOwner, key, json } = options;
  if (owner !== undefined && everyOwner) throw argumentError('Give one of --owner and --every-owner.');
  const value = await jsonObject('--data', data);
  const { withServices } = await import('../data-source/services.js');
  return withServices<ExitCode>(cli, dataSource, async ({ webhooks }) => {
    const event = await webhooks.publish(type, value, {
      ...(everyOwner ? { owner: EVERY_OWNER } : owner === undefined ? {} : { owner }),
      ...(key === undefined ? {} : { idempotencyKey: key }),
    });
    print(cli.terminal, event, { json, rows: [[event.id]] });
    return 0;
  });
}
