import type { Command } from 'commander';
import type { Attempt, DeliveryDetails } from '../../deliveries/delivery.js';
import { SECOND, pause } from '../../time.js';
import { duration, wholeNumber } from '../terminal/arguments.js';
import type { CommandServices } from '../services/command-services.js';
import { withCommandServices, type SourceOptions } from '../services/with-command-services.js';
import { handler, type Cli, type ResultOptions } from '../terminal/cli.js';
import { shownDuration } from '../terminal/durations.js';
import { print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import { withJsonOption, withSourceOptions } from './options.js';

interface Options extends SourceOptions, ResultOptions {
  readonly type?: string;
  readonly payloadVersion?: number;
  readonly wait?: true | number;
}

const WAIT_MS = 30 * SECOND;
const LOOK_EVERY_MS = 200;

/** `test`: a test event for one listener. */
export function addTest(program: Command, cli: Cli): void {
  const command = program
    .command('test')
    .description('Makes a test event for one listener. A process of your application sends it.')
    .argument('<listener>', 'lst_…')
    .option('--type <type>', 'the type of the example; otherwise webhook.test')
    .option(
      '--payload-version <number>',
      'the version of the payload; otherwise that of the listener',
      wholeNumber(1, 9_999),
    )
    .option(
      '--wait [duration]',
      'wait for the first attempt, for 30s or another time; exits with 1 if it failed',
      duration,
    );
  withJsonOption(withSourceOptions(command)).action(
    handler(cli, (id: string, options: Options) => test(cli, id, options)),
  );
}

async function test(cli: Cli, id: string, { type, payloadVersion, wait, json, ...source }: Options): Promise<ExitCode> {
  return withCommandServices<ExitCode>(cli, source, async ({ listeners, deliveries }) => {
    const { deliveryId } = await listeners.sendTest(id, {
      ...(type === undefined ? {} : { type }),
      ...(payloadVersion === undefined ? {} : { version: payloadVersion }),
    });
    const waitMs = wait === true ? WAIT_MS : (wait ?? 0);
    const delivery = await attempted(deliveries, deliveryId, waitMs);
    const attempt = delivery.attempts[0];
    print(cli.terminal, delivery, { json, rows: [[delivery.id, attempt ? answerOf(attempt) : delivery.state]] });
    if (wait === undefined) return 0;
    if (!attempt) {
      cli.terminal.err(
        `No process sent it within ${shownDuration(waitMs)}. Check that your application runs with a dispatcher, and look at the output of status.`,
      );
    }
    return attempt?.outcome === 'accepted' ? 0 : 1;
  });
}

/** Waits for the first attempt, or until the time is over. */
async function attempted(
  deliveries: CommandServices['deliveries'],
  id: string,
  waitMs: number,
): Promise<DeliveryDetails> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const delivery = await deliveries.get(id);
    if (delivery.attempts.length || performance.now() >= deadline) return delivery;
    await pause(LOOK_EVERY_MS);
  }
}

function answerOf({ outcome, status, errorCode, errorDetail, durationMs }: Attempt): string {
  const answer = status === null ? (errorCode ?? outcome) : String(status);
  const time = durationMs === null ? '' : ` in ${shownDuration(durationMs)}`;
  return `${answer}${time}${errorDetail === null ? '' : `: ${errorDetail}`}`;
}
