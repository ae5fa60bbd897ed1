import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as typeorm from 'typeorm';
import { ConfigurationError } from './errors.js';

/**
 * The supported versions of TypeORM, equal to the peer range in package.json. TypeORM 0.3.20 and older do not wait for `beforeQuery`.
 * TypeORM 0.3.24 and older lack some methods of the insert builder. Capture needs these methods to find the written rows. TypeORM 1.0
 * does not wait for `beforeQuery` on better-sqlite3.
 */
export const SUPPORTED_TYPEORM = '^0.3.25 || ^1.1.0';

/** The TypeORM that this library imports. */
export interface FoundTypeorm {
  /**
   * The version in the package.json of TypeORM. If there is no package.json, as in a bundle: `older than 0.3.25` or
   * `1.0`.
   */
  readonly version: string;
  /** The folder of the package.json of TypeORM, or `undefined` if no package.json was found. */
  readonly folder: string | undefined;
}

/** @throws ConfigurationError `TYPEORM_UNSUPPORTED`: the installed TypeORM is not one of {@link SUPPORTED_TYPEORM} */
export function assertSupportedTypeorm(found: FoundTypeorm | undefined = installedTypeorm()): void {
  if (!found || isSupported(found.version)) return;
  const { version, folder } = found;
  throw new ConfigurationError(
    'TYPEORM_UNSUPPORTED',
    `TypeORM ${version} is installed${folder === undefined ? '' : ` (${folder})`}. nestjs-entity-webhooks works with ${SUPPORTED_TYPEORM}. Install one of these: npm install typeorm@^1.1.0, or typeorm@^0.3.25.`,
    { details: { found: version, allowed: SUPPORTED_TYPEORM } },
  );
}

/** A prerelease counts as its release. */
function isSupported(version: string): boolean {
  const [major, minor, patch] = (/^(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1) ?? []).map(Number);
  if (major === undefined || minor === undefined || patch === undefined) return false;
  return major === 0 ? minor === 3 && patch >= 25 : major === 1 && minor >= 1;
}

/** Returns `undefined` if there is no package.json and the exports look like a supported version. */
export function installedTypeorm(): FoundTypeorm | undefined {
  return fromPackage() ?? fromFeatures(typeorm);
}

/**
 * Finds the folder from a stack frame in TypeORM's code. So the folder is always the folder of the copy in use. Two other ways do not work:
 * TypeORM does not export its package.json, and jest runs this file as CommonJS, where `import.meta.url` does not exist.
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

/** Makes code of TypeORM call `callback`. */
function typeormCode(callback: () => string): void {
  const options = {
    get name() {
      return callback();
    },
  };
  void new typeorm.Table(options);
}

/** Returns the stack frame that called the callback. */
function callerOf(code: (callback: () => string) => void): string {
  let frame = '';
  code(() => {
    // The lines of the stack: 'Error', this function, the getter, the caller of the getter.
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

/** Guesses the version from the exports. Each release added a name that older releases lack. */
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
