import { Option, type Command } from 'commander';
import { parseUrl } from '../../parse-url.js';
import { argumentError } from '../terminal/cli.js';

/** Options of commands that can work over the API. */
export interface ApiOptions {
  readonly api?: string;
  readonly token?: string;
}

/** Adds `--api` and `--token`. A token in an environment variable does not appear in the history of the shell. */
export function withApiOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--api <url>', 'work over the REST API at this URL, and not over a data source').env('WEBHOOKS_API'),
    )
    .addOption(tokenOption());
}

export function tokenOption(): Option {
  return new Option('--token <token>', 'a token of a session of the API, whs_…').env('WEBHOOKS_TOKEN');
}

/**
 * The root of the API, with `/v1`.
 *
 * @throws ConfigurationError `INVALID_ARGUMENT`
 */
export function apiUrl(option: string, text: string): string {
  const url = parseUrl(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw argumentError(
      `Invalid value '${text}' for ${option}. Allowed: the URL of the API, such as https://app.example.com/webhooks.`,
    );
  }
  const path = url.pathname.replace(/\/+$/, '');
  return `${url.origin}${path.endsWith('/v1') ? path : `${path}/v1`}`;
}
