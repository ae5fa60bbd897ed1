import type { Readable } from 'node:stream';

/** One file of the archive. */
export interface ArchiveFile {
  /**
   * `2026-12-01.ndjson`. Rows of a day whose file is complete already come in a further file: `2026-12-01.part-1.ndjson`. After a crash or an
   * error, the same rows come again under the same name, so that the name can be the key of an object store.
   */
  readonly name: string;
  /** The day (UTC) on which the events of the file happened: `2026-12-01`. */
  readonly day: string;
  /** Aborted if the file is no longer wanted, for example because the process stops. Then `lines` ends with an error, too. */
  readonly signal: AbortSignal;
}

/**
 * Stores old events, deliveries and attempts before retention deletes them. The archive is a replaceable part: see `docs/archive.md`.
 *
 * @example
 * class BucketArchive extends WebhookArchive {
 *   async store({ name }: ArchiveFile, lines: Readable) {
 *     await new Upload({ client, params: { Bucket: 'webhooks', Key: name, Body: lines } }).done();
 *   }
 * }
 */
export abstract class WebhookArchive {
  /**
   * Stores one file. Rows are deleted only after the promise is fulfilled. If it is rejected, the rows stay, and the file is made again later.
   * If the file exists, replace it.
   *
   * @param lines newline-delimited JSON in UTF-8. Read it to its end, and fulfil the promise when the file cannot be lost any more. Rows are read
   * from the database as the stream is read, so a slow store needs no more memory. The stream ends with an error if the file is incomplete:
   * do not keep such a file
   */
  abstract store(file: ArchiveFile, lines: Readable): Promise<void>;
}
