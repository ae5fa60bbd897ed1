import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { Inject, Injectable } from '@nestjs/common';
import { WebhookArchive, type ArchiveFile } from 'nestjs-entity-webhooks';

export const ARCHIVE_FOLDER = Symbol('ARCHIVE_FOLDER');

/** Stores each file in a folder, compressed. A file gets its name when it is complete. */
@Injectable()
export class FolderArchive extends WebhookArchive {
  constructor(@Inject(ARCHIVE_FOLDER) private readonly folder: string) {
    super();
  }

  async store({ name }: ArchiveFile, lines: Readable): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    const incomplete = join(this.folder, `${name}.${process.pid}.tmp`);
    try {
      await pipeline(lines, createGzip(), createWriteStream(incomplete, { flush: true }));
      await rename(incomplete, join(this.folder, `${name}.gz`));
    } catch (error) {
      await rm(incomplete, { force: true });
      throw error;
    }
  }
}
