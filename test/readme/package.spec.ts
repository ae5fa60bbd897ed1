import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const library = (file: string) => fileURLToPath(new URL(`../../libs/webhooks/${file}`, import.meta.url));

describe('the package', () => {
  it('has its sources in its source maps, because the tarball does not contain the sources', () => {
    const host = { ...ts.sys, onUnRecoverableConfigFileDiagnostic: () => expect.unreachable('the file is there') };
    const config = ts.getParsedCommandLineOfConfigFile(library('tsconfig.lib.json'), {}, host);
    expect(config?.options).toMatchObject({ sourceMap: true, inlineSources: true });
  });

  it('is published with provenance', () => {
    const { publishConfig } = JSON.parse(readFileSync(library('package.json'), 'utf8')) as { publishConfig: object };
    expect(publishConfig).toEqual({ access: 'public', provenance: true });
  });
});
