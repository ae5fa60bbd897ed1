import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { readFileSync } from 'node:fs';
import * as typeorm from 'typeorm';
import { describe, expect, it } from 'vitest';
import {
  assertSupportedTypeorm,
  fromFeatures,
  installedTypeorm,
  SUPPORTED_TYPEORM,
} from '../../libs/webhooks/src/typeorm-version.js';
import { WORKSPACE } from '../support/scratch-project.js';

function readJson(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
}

describe('the installed TypeORM', () => {
  it('is found by its package.json, although its `exports` hide that file', () => {
    const folder = dirname(createRequire(import.meta.url).resolve('typeorm'));
    const { version } = readJson(join(folder, 'package.json'));
    expect(installedTypeorm()).toEqual({ version, folder });
  });

  it.each(['0.3.25', '0.3.31', '0.3.32-dev.abc', '1.1.0', '1.1.1-nightly.20260919', '1.20.3'])(
    '%s is accepted',
    (version) => {
      expect(() => assertSupportedTypeorm({ version, folder: '/app/node_modules/typeorm' })).not.toThrow();
    },
  );

  it.each(['0.2.45', '0.3.0', '0.3.24', '0.4.0', '1.0.0', '2.0.0', '10.1.0', 'next'])(
    '%s is refused, and the error says what is allowed and what to do',
    (version) => {
      const refused = () => assertSupportedTypeorm({ version, folder: '/app/node_modules/typeorm' });
      expect(refused).toThrow(
        `TypeORM ${version} is installed (/app/node_modules/typeorm). nestjs-entity-webhooks works with ${SUPPORTED_TYPEORM}. Install one of these: npm install`,
      );
      expect(refused).toThrow(
        expect.objectContaining({
          code: 'TYPEORM_UNSUPPORTED',
          details: { found: version, allowed: SUPPORTED_TYPEORM },
        }) as Error,
      );
    },
  );

  it('has the version range of the peer dependency', () => {
    const { peerDependencies } = readJson(join(WORKSPACE, 'libs/webhooks/package.json'));
    expect(peerDependencies).toMatchObject({ typeorm: SUPPORTED_TYPEORM });
  });
});

describe('a TypeORM in a bundle, without its package.json', () => {
  it('is accepted if it has every needed member', () => {
    expect(fromFeatures(typeorm)).toBeUndefined();
  });

  it('is refused if it is older than 0.3.25', () => {
    const found = fromFeatures({ ...typeorm, InsertQueryBuilder: class {} });
    expect(() => assertSupportedTypeorm(found)).toThrow('TypeORM older than 0.3.25 is installed. nestjs');
  });

  it('is refused if it is 1.0', () => {
    class NamedPlaceholdersNotSupportedError {}
    const found = fromFeatures({ ...typeorm, NamedPlaceholdersNotSupportedError, DateUtils: undefined });
    expect(() => assertSupportedTypeorm(found)).toThrow('TypeORM 1.0 is installed. nestjs');
  });
});
