import { randomBytes } from 'node:crypto';
import { Option, type Command } from 'commander';
import { generateSigningKey } from '../../signing/ed25519-key.js';
import { generateSecret } from '../../signing/secret.js';
import { argumentError, handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { counted, print, type Cell } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withDataSourceOption, withJsonOption, type DataSourceOptions } from './options.js';

/** AES-256. */
const SEALING_KEY_BYTES = 32;

/** The kinds of keys that `keys generate` can make. */
const GENERATE = {
  sealing: () => ({ id: new Date().toISOString().slice(0, 7), key: randomBytes(SEALING_KEY_BYTES).toString('base64') }),
  secret: () => ({ secret: generateSecret() }),
  ed25519: () => ({ ...generateSigningKey() }),
} satisfies Record<string, () => Readonly<Record<string, string>>>;

/** `keys`: keys that seal the secrets in the tables, and keys that sign. */
export function addKeys(program: Command, cli: Cli): void {
  const keys = program.command('keys').description('Makes keys, and checks and renews the sealing of secrets.');
  withJsonOption(
    keys
      .command('generate')
      .description('Makes a new key. Stores it nowhere.')
      .addOption(
        new Option('--type <type>', 'sealing: for secrets.keys; secret: whsec_…; ed25519: a pair whsk_… and whpk_…')
          .choices(Object.keys(GENERATE))
          .default('sealing'),
      ),
  ).action(
    handler(cli, (options: ResultOptions & { type: keyof typeof GENERATE }) => {
      const made: Readonly<Record<string, string>> = GENERATE[options.type]();
      print(cli.terminal, made, { json: options.json, rows: Object.entries(made) });
      return Promise.resolve(0 as const);
    }),
  );
  const sealing = (name: string, description: string, isDryRun: boolean) =>
    withJsonOption(withDataSourceOption(keys.command(name).description(description))).action(
      handler(cli, (options: DataSourceOptions & ResultOptions) => reseal(cli, options, isDryRun)),
    );
  sealing('check', 'Opens every secret, and says which cannot be read and which are sealed with an older key.', true);
  sealing(
    'reseal',
    'Seals every secret with the first key of secrets.keys. Run it before you remove an old key.',
    false,
  );
}

async function reseal(
  cli: Cli,
  { dataSource, json }: DataSourceOptions & ResultOptions,
  isDryRun: boolean,
): Promise<ExitCode> {
  const { withServices } = await import('../data-source/services.js');
  return withServices<ExitCode>(cli, dataSource, async ({ listeners, assertCanSeal, hasKeys }) => {
    await assertCanSeal();
    if (!hasKeys)
      throw argumentError('There is no key. Export `webhooks` with secrets.keys from the data source file.');
    const { resealed, unreadable } = await listeners.resealSecrets({ dryRun: isDryRun });
    const rows: Cell[][] = [
      [isDryRun ? 'to reseal' : 'resealed', counted(resealed, 'listener')],
      ['unreadable', counted(unreadable.length, 'listener')],
      ...unreadable.map((id): Cell[] => ['', id]),
    ];
    print(cli.terminal, { resealed, unreadable, dryRun: isDryRun }, { json, rows });
    return unreadable.length > 0 || (isDryRun && resealed > 0) ? 1 : 0;
  });
}
