import { Option, type Command } from 'commander';
import type { IncomingWebhookSchemeName } from '../../receiver/incoming-webhook-schemes.js';
import { duration, share, wholeNumber } from '../terminal/arguments.js';
import { apiUrl, tokenOption } from '../services/api-options.js';
import { argumentError, handler, type Cli } from '../terminal/cli.js';
import { secretOption } from './options.js';
import { SCHEMES } from './verify.js';

const DEFAULT_PORT = 4_000;

interface Options {
  readonly secret?: string[];
  readonly scheme: IncomingWebhookSchemeName;
  readonly forwardTo?: string;
  readonly allowRemote?: boolean;
  readonly status: number;
  readonly fail: number;
  readonly delay: number;
  readonly type?: string;
  readonly print: 'line' | 'full';
  readonly json?: boolean;
  readonly from?: string;
  readonly listener?: string;
  readonly token?: string;
  readonly state?: string;
}

/** `listen`: a receiver on this machine. */
export function addListen(program: Command, cli: Cli): void {
  program
    .command('listen')
    .description(
      'Receives webhooks on 127.0.0.1, or reads them from the API (--from). Verifies them, prints them, and forwards them to your server.',
    )
    .argument('[port]', '0 for any free port', wholeNumber(0, 65_535), DEFAULT_PORT)
    .addOption(secretOption())
    .addOption(new Option('--scheme <name>', 'the signature scheme').choices(SCHEMES).default('standard'))
    .option('--forward-to <url>', 'forward each request to this URL, and return its answer')
    .option('--allow-remote', 'forward to another machine, too')
    .option('--type <type>', 'print and forward only this event type, or types such as order.*')
    .option('--status <status>', 'the status of each answer', wholeNumber(200, 599), 204)
    .option('--fail <share>', 'the share of requests that get a 500 as the answer, such as 20%', share, 0)
    .option('--delay <duration>', 'wait before each answer, such as 2s', duration, 0)
    .addOption(new Option('--print <how>', 'a line, or the full request').choices(['line', 'full']).default('line'))
    .option('--json', 'print each request as a line of JSON')
    .option(
      '--from <api>',
      'read the deliveries of a listener from the API at this URL; your machine needs no public address',
    )
    .option('--listener <id>', 'with --from: lst_…')
    .addOption(tokenOption())
    .option('--state <file>', 'with --from: the file that stores the position; by default a file in ~/.local/state')
    .action(
      handler(cli, async (port: number, { allowRemote = false, ...options }: Options) => {
        const { listen } = await import('../receiving/listen.js');
        const { forwardTarget } = await import('../receiving/forward.js');
        const { forwardTo, secret = [], from, listener, ...rest } = options;
        const target = forwardTo === undefined ? null : forwardTarget(forwardTo, allowRemote);
        if (from !== undefined || listener !== undefined) {
          if (from === undefined || listener === undefined) throw argumentError('Give both --from and --listener.');
          const { pull } = await import('../receiving/pull.js');
          const { token, ...shown } = rest;
          const [first] = secret;
          return pull({ ...shown, from: apiUrl('--from', from), listener, token, target, secret: first }, cli.terminal);
        }
        return listen(port, { ...rest, target, secrets: secret }, cli.terminal);
      }),
    );
}
