import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConfigurationError } from '../errors.js';

/** A file of the dashboard, with its compressed versions if the build made them. */
export interface DashboardFile {
  readonly type: string;
  readonly etag: string;
  readonly bytes: Buffer;
  readonly br?: Buffer;
  readonly gzip?: Buffer;
}

/** Names of the files that the HTML pages load first. */
export interface EntryFiles {
  readonly script: string;
  readonly style: string;
  readonly embed: string;
}

/** The built pages. All files are in memory, so a request never turns a name into a path. */
export interface DashboardFiles {
  readonly entries: EntryFiles;
  readonly byName: ReadonlyMap<string, DashboardFile>;
}

/** This path is correct both in the sources and in the built package. */
const FOLDER = new URL('../../dist/ui/', import.meta.url);
const MANIFEST = 'manifest.json';

const TYPES: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
};

let read: DashboardFiles | undefined;

/** Reads the files once for each process. @throws ConfigurationError `DASHBOARD_FILES_MISSING` */
export function dashboardFiles(): DashboardFiles {
  read ??= readFiles();
  return read;
}

function readFiles(): DashboardFiles {
  try {
    const names = readdirSync(FOLDER);
    const files = names.filter((name) => TYPES[extname(name)] !== undefined);
    const entries = JSON.parse(readFileSync(new URL(MANIFEST, FOLDER), 'utf8')) as EntryFiles;
    return { entries, byName: new Map(files.map((name) => [name, readFile(name, names)])) };
  } catch (cause) {
    throw new ConfigurationError(
      'DASHBOARD_FILES_MISSING',
      `WebhooksDashboardModule cannot read its files in ${fileURLToPath(FOLDER)}. If a bundler packs the application, make nestjs-entity-webhooks external. In a checkout of nestjs-entity-webhooks, run npm run build.`,
      { cause },
    );
  }
}

function readFile(name: string, names: readonly string[]): DashboardFile {
  const compressed = (extension: string) =>
    names.includes(name + extension) ? readFileSync(new URL(name + extension, FOLDER)) : undefined;
  const br = compressed('.br');
  const gzip = compressed('.gz');
  const bytes = readFileSync(new URL(name, FOLDER));
  const type = TYPES[extname(name)] as string;
  return { type, bytes, etag: etagOf(bytes), ...(br && { br }), ...(gzip && { gzip }) };
}

export function etagOf(bytes: Buffer): string {
  return `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
}
