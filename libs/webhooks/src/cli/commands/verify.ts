import { Option, type Command } from 'commander';
import { isEd25519Key } from '../../signing/ed25519-key.js';
import type { IncomingWebhookSchemeName } from '../../receiver/incoming-webhook-schemes.js';
import { wholeNumber } from '../terminal/arguments.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { contentOf } from '../terminal/contents.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { secretOption, withJsonOption } from './options.js';

/** The schemes that `verify` and `listen` know. */
export const SCHEMES: readonly IncomingWebhookSchemeName[] = ['standard', 'stripe', 'github', 'google-code'];

interface Options extends ResultOptions {
  readonly secret?: string[];
  readonly jwks?: string;
  readonly headers: string;
  readonly body: string;
  readonly scheme: IncomingWebhookSchemeName;
  readonly at?: number;
  readonly tolerance: number;
}

/** `verify`: says whether a saved request is genuine, and what is wrong with it. */
export function addVerify(program: Command, cli: Cli): void {
  const command = program
    .command('verify')
    .description('Verifies a saved request, and says what is wrong with it. Exits with 1 if it is not valid.')
    .addOption(secretOption())
    .option('--jwks <url>', 'the key set of the sender: a URL or @file')
    .requiredOption('--headers <headers>', 'the headers: @file, or a text')
    .requiredOption('--body <body>', 'the raw body: @file, - for the standard input, or a text')
    .addOption(new Option('--scheme <name>', 'the signature scheme').choices(SCHEMES).default('standard'))
    .option('--at <time>', 'the time at which it arrived: Unix seconds, or such as 2026-11-30T12:00:00Z', time)
    .option('--tolerance <seconds>', 'how old the signature may be', wholeNumber(0, 1e9), 300);
  withJsonOption(command).action(handler(cli, (options: Options) => verify(cli, options)));
}

async function verify(cli: Cli, options: Options): Promise<ExitCode> {
  const { headers, body, scheme, at = Date.now(), tolerance, json } = options;
  const { diagnose } = await import('../receiving/diagnose.js');
  const { readHeaders } = await import('../receiving/read-headers.js');
  const diagnosis = await diagnose({
    headers: readHeaders((await contentOf('--headers', headers)).toString('utf8')),
    body: await contentOf('--body', body),
    secrets: await secretsOf(options),
    scheme,
    now: at,
    toleranceSeconds: tolerance,
  });
  const { isValid, id, message, timestamp } = diagnosis;
  const signedAt = timestamp === null ? '' : `, signed at ${new Date(timestamp * 1_000).toISOString()}`;
  const text = isValid ? `valid: ${id}${signedAt}` : `not valid: ${message}`;
  print(cli.terminal, diagnosis, { json, rows: [[text]] });
  return isValid ? 0 : 1;
}

async function secretsOf({ secret = [], jwks }: Options): Promise<string[]> {
  if (jwks === undefined) {
    if (!secret.length) throw argumentError('Give --secret <secret> or --jwks <url>, or set WEBHOOKS_SECRET.');
    return secret;
  }
  const { readKeySet } = await import('../receiving/key-set.js');
  return [...secret.filter((one) => !isEd25519Key(one)), ...(await readKeySet(jwks))];
}

function time(text: string): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text);
  if (!Number.isNaN(ms)) return ms;
  throw argumentError(
    `Invalid value '${text}' for --at. Allowed: Unix seconds, or a time such as 2026-11-30T12:00:00Z.`,
  );
}
