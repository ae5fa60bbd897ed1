import type { Command } from 'commander';
import type { Sending } from '../../system/system-overview.js';
import type { CommandServices } from '../services/command-services.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { sendingText } from '../terminal/sending-text.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption, withSourceOptions } from './options.js';

type Common = SourceOptions & ResultOptions;

/** `sending`: status, pause, resume. */
export function addSending(program: Command, cli: Cli): void {
  const sending = program
    .command('sending')
    .description('Pauses and resumes all sending, in every process. Events are stored and routed meanwhile.');
  const of = (name: string, description: string) =>
    withJsonOption(withSourceOptions(sending.command(name).description(description)));
  of('status', 'Says whether sending is paused. Exits with 1 if it is.').action(
    handler(cli, (options: Common) => show(cli, options, ({ system }) => system.sending(), true)),
  );
  of('pause', 'Pauses all sending. Requests in flight are completed.')
    .option('--reason <text>', 'why; other operators see it')
    .action(
      handler(cli, ({ reason, ...options }: Common & { reason?: string }) =>
        show(cli, options, ({ system }) => system.pauseSending(reason === undefined ? {} : { reason })),
      ),
    );
  of('resume', 'Resumes sending. What waited is sent.').action(
    handler(cli, (options: Common) => show(cli, options, ({ system }) => system.resumeSending())),
  );
}

async function show(
  cli: Cli,
  { json, ...source }: Common,
  work: (services: CommandServices) => Promise<Sending>,
  isQuestion = false,
): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async (services) => {
    const sending = await work(services);
    print(cli.terminal, sending, { json, rows: [[sendingText(sending)]] });
    return isQuestion && sending.paused ? 1 : 0;
  });
}
