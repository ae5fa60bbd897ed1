import type { Cli } from '../terminal/cli.js';
import type { ApiOptions } from './api-options.js';
import type { CommandServices } from './command-services.js';

/** The target of a command: the API of `--api`, or else the data source of `-d`. */
export interface SourceOptions extends ApiOptions {
  readonly dataSource?: string;
}

/** Runs `work` with the services of the API or of the data source. */
export async function withCommandServices<T>(
  cli: Pick<Cli, 'terminal'>,
  { api, token, dataSource }: SourceOptions,
  work: (services: CommandServices) => Promise<T>,
): Promise<T> {
  if (api !== undefined) {
    const { remoteServices } = await import('./remote-services.js');
    return work(remoteServices(api, token));
  }
  const { withServices } = await import('../data-source/services.js');
  return withServices(cli, dataSource, work);
}
