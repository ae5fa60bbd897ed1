import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as typeorm from 'typeorm';
import { ConfigurationError } from './errors.js';

/**
 * Also the peer range of package.json. 0.3.20 and older do not wait for `beforeQuery`, 0.3.24 and older lack methods of the insert builder by
 * which capture finds the rows that were written; 1.0 does not wait for `beforeQuery` on better-sqlite3.
 */
export const SUPPORTED_TYPEORM = '^0.3.25 || ^1.1.0';

/** The TypeORM that this library imports. */
export interface FoundTypeorm {
  /** As its package.json says, or `older than 0.3.25` and the like where no package.json is to be found, as in a bundle. */
  readonly version: string;
  /** `undefined` where no package.json is to be found. */
  readonly folder: string | undefined;
}

/**
 * @throws ConfigurationError `TYPEORM_UNSUPPORTED`
 */
export function assertSupportedTypeorm(found: FoundTypeorm | undefined = installedTypeorm()): void {
  if (!found || isSupported(found.version)) return;
  const { version, folder } = found;
  throw new ConfigurationError(
    'TYPEORM_UNSUPPORTED',
    `TypeORM ${version} is installed${folder === undefined ? '' : ` (${folder})`}. nestjs-entity-webhooks works with ${SUPPORTED_TYPEORM}. Install one of these: npm install typeorm@^1.1.0, or typeorm@^0.3.25.`,
    { details: { found: version, allowed: SUPPORTED_TYPEORM } },
  );
}

/** Prereleases count as what they lead to. */
function isSupported(version: string): boolean {
  const [major, minor, patch] = (/^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1) ?? []).map(Number);
  if (major === undefined || minor === undefined || patch === undefined) return false;
  return major === 0 ? minor === 3 && patch >= 25 : major === 1 && minor >= 1;
}

/** `undefined` when nothing says that it is too old and no package.json says what it is. */
export function installedTypeorm(): FoundTypeorm | undefined {
  return fromPackage() ?? fromFeatures(typeorm);
}

/**
 * TypeORM does not export its package.json, and jest runs this file as CommonJS, where there is no `import.meta.url` to resolve from:
 * a frame of TypeORM's own names the folder. That is the copy in use, however it was found.
 */
function fromPackage(): FoundTypeorm | undefined {
  const frame = /(?:\(|at )([^()]+?):\d+:\d+\)?$/.exec(callerOf(typeormCode))?.[1];
  if (frame === undefined) return undefined;
  const file = frame.startsWith('file:') ? fileURLToPath(frame) : frame;
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) {
    const { name, version } = readPackage(folder);
    if (name === 'typeorm' && typeof version === 'string') return { version, folder };
  }
  return undefined;
}

/** Code of TypeORM that calls back. */
function typeormCode(callback: () => string): void {
  const options = {
    get name() {
      return callback();
    },
  };
  void new typeorm.Table(options);
}

/** The frame in which `code` calls back. */
function callerOf(code: (callback: () => string) => void): string {
  let frame = '';
  code(() => {
    // Error, this function, the getter, its caller.
    frame = new Error().stack?.split('\n')[3] ?? '';
    return 'any';
  });
  return frame;
}

function readPackage(folder: string): { name?: unknown; version?: unknown } {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown; version?: unknown };
  } catch {
    return {};
  }
}

/** Each release by what the one before it lacks. */
export function fromFeatures(exported: object): FoundTypeorm | undefined {
  const { InsertQueryBuilder, NamedPlaceholdersNotSupportedError, DateUtils } = exported as Record<
    string,
    { prototype: object } | undefined
  >;
  if (!InsertQueryBuilder || !('createUpsertConditionExpression' in InsertQueryBuilder.prototype)) {
    return { version: 'older than 0.3.25', folder: undefined };
  }
  const isBefore11 = NamedPlaceholdersNotSupportedError !== undefined && DateUtils === undefined;
  return isBefore11 ? { version: '1.0', folder: undefined } : undefined;
}
