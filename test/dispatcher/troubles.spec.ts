import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeClock } from 'nestjs-entity-webhooks/testing';
import { Diagnostics } from '../../libs/webhooks/src/diagnostics/diagnostics.js';
import { SetBack } from '../../libs/webhooks/src/dispatcher/set-back.js';
import { Troubles } from '../../libs/webhooks/src/dispatcher/troubles.js';
import type { Database } from '../../libs/webhooks/src/store/database/database.js';

describe('a trouble that comes and goes', () => {
  let now: number;
  let lines: string[];
  let troubles: Troubles;

  beforeEach(() => {
    now = 1_000;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    lines = [];
    const add = (text: unknown) => void lines.push(String(text));
    troubles = new Troubles({ log: add, error: add, warn: add }, new Diagnostics('default'));
  });
  afterEach(() => vi.restoreAllMocks());

  const flap = () => {
    troubles.failed('claiming', 'It fails', new Error('why'));
    troubles.succeeded('claiming');
  };

  it('is logged as one pair of lines a minute', () => {
    for (let n = 0; n < 10; n++, now += 1_000) flap();
    expect(lines).toEqual(['It fails: why', 'The dispatcher works again.']);
    now += 60_000;
    flap();
    expect(lines).toHaveLength(4);
  });

  it('is logged when it lasts longer than a minute', () => {
    flap();
    now += 1_000;
    troubles.failed('claiming', 'It fails', 'why');
    expect(lines).toHaveLength(2);
    now += 60_000;
    troubles.failed('claiming', 'It fails still', 'why');
    troubles.failed('polling', 'And this', 'why');
    expect(lines.slice(2)).toEqual(['It fails still: why']);
    troubles.succeeded('claiming');
    expect(lines).toHaveLength(3);
    troubles.succeeded('polling');
    expect(lines.at(-1)).toBe('The dispatcher works again.');
  });
});

it('times that cannot be moved back are logged once, and once when they are moved', async () => {
  const lines: string[] = [];
  const add = (text: unknown) => void lines.push(String(text));
  let tries = 0;
  const database = {
    transaction: () => (++tries < 3 ? Promise.reject(new Error('read-only')) : Promise.resolve(null)),
  } as unknown as Database;
  let finish = () => undefined as void;
  const done = new Promise<void>((resolve) => (finish = resolve));
  const logger = { log: add, error: add, warn: add };
  const setBack = new SetBack({ database, clock: new FakeClock(), leaseMs: 1_000, logger, done: () => finish() });
  setBack.begin(3_600_000);
  await done;
  await setBack.stop();
  expect(lines.slice(1)).toEqual([
    'Times written while the clock was ahead could not be moved back; the dispatcher retries every second: read-only',
    'Times written while the clock was ahead were moved back.',
  ]);
});
