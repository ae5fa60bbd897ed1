import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const TESTS = join(import.meta.dirname, '..');
/** vitest loads these anew for each suite, or runs them in a process of their own. */
const OWN = /^support\/(shared-process|typeorm-0\.3\/left-out)\.ts$|^pack\//;
const HOOK = /^(?:beforeEach|afterEach|beforeAll|afterAll)\(/m;

it('no module that suites share has a hook of its own: only the first suite of a process would run it', () => {
  const shared = readdirSync(TESTS, { recursive: true, encoding: 'utf8' })
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.spec.ts') && !OWN.test(name));
  expect(shared).toContain('support/webhooks-app.ts');
  expect(shared.filter((name) => HOOK.test(readFileSync(join(TESTS, name), 'utf8')))).toEqual([]);
});
