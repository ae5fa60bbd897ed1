import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import type { RestoreOptions, RestoreResult } from '../../deliveries/restore.js';
import { ConfigurationError } from '../../errors.js';
import { messageOf } from '../../foreign-text.js';
import { argumentError, type Cli, type ResultOptions } from '../terminal/cli.js';
import { counted, print } from '../terminal/table.js';
import type { ExitCode } from '../terminal/terminal.js';
import type { SourceOptions } from '../services/with-command-services.js';

interface ArchiveOptions extends SourceOptions, ResultOptions {
  readonly listener?: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly type?: readonly string[];
  readonly owner?: string;
  readonly rate?: number;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
}

/** Restores the events of a file of the archive, and sends them to the listener, if one is given. Checks every line before. */
export async function restore(cli: Cli, file: string, options: ArchiveOptions): Promise<ExitCode> {
  const { terminal } = cli;
  const { json, dryRun: isDryRun = false, yes: isConfirmed = false } = options;
  assertUsable(options);
  if (!isDryRun && !isConfirmed && !terminal.isInteractive) {
    throw argumentError(
      'Nobody can confirm this here. Give --yes to continue without a question, or --dry-run to count only.',
    );
  }
  const isCompressed = await isGzip(file);
  const { withServices } = await import('../data-source/services.js');
  return withServices<ExitCode>(cli, options.dataSource, async ({ events }) => {
    const selection = selectionOf(options);
    const expected = await events.restore(linesOf(file, isCompressed), { ...selection, dryRun: true });
    if (isDryRun) {
      print(terminal, { ...expected, dryRun: true }, { json, rows: [[`${textOf(expected)} would be restored.`]] });
      return 0;
    }
    if (!isConfirmed && !(await terminal.ask(`${textOf(expected)} would be restored. Continue?`))) return 1;
    const result = await events.restore(linesOf(file, isCompressed), selection);
    const made = `${counted(result.deliveries, 'delivery', 'deliveries')} ${result.deliveries === 1 ? 'was' : 'were'} made.`;
    const rows = [[`${textOf(result)} ${result.restored === 1 ? 'was' : 'were'} restored. ${made}`]];
    print(terminal, { ...result, dryRun: false }, { json, rows });
    return 0;
  });
}

function assertUsable({ api, owner, rate }: ArchiveOptions): void {
  if (api !== undefined) {
    throw argumentError(
      'Give no --api with --archive: the events are written to the tables. Name the data source with -d.',
    );
  }
  if (owner !== undefined) throw argumentError('Give no --owner with --archive: --listener names one listener.');
  if (rate !== undefined) {
    throw argumentError(
      'Give no --rate with --archive. The `rateLimit` of the listener limits how fast it gets the deliveries.',
    );
  }
}

function selectionOf({ listener, since, until, type }: ArchiveOptions): RestoreOptions {
  return {
    ...(listener === undefined ? {} : { listenerId: listener }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    ...(type === undefined ? {} : { types: type }),
  };
}

/** `8 of 10 events` */
function textOf({ restored, events }: RestoreResult): string {
  return `${restored} of ${counted(events, 'event', 'events')}`;
}

function linesOf(file: string, isCompressed: boolean): AsyncIterable<Uint8Array> {
  const stream = createReadStream(file);
  if (!isCompressed) return stream;
  const text = createGunzip();
  // `pipe` does not pass errors on.
  stream.on('error', (error) => text.destroy(error));
  return stream.pipe(text);
}

/** @throws ConfigurationError `ARCHIVE_UNREADABLE` */
async function isGzip(file: string): Promise<boolean> {
  try {
    const handle = await open(file);
    try {
      const { buffer } = await handle.read(Buffer.alloc(2), 0, 2, 0);
      return buffer.readUInt16BE() === GZIP;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new ConfigurationError(
      'ARCHIVE_UNREADABLE',
      `The file '${file}' cannot be read: ${messageOf(error)}. Give the path of a file that the archive has stored, as it is or compressed with gzip.`,
      { cause: error },
    );
  }
}

/** The first bytes of a file that gzip has compressed (RFC 1952, section 2.3.1). */
const GZIP = 0x1f8b;
