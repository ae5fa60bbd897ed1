import { describe, expect, it } from 'vitest';
import { generateSecret } from 'nestjs-entity-webhooks';

import { API_OPTIONS } from '../../libs/webhooks/src/api/api-options.js';
import { BULLMQ_OPTIONS } from '../../libs/webhooks/src/bullmq/bullmq-engine-options.js';
import { DASHBOARD_OPTIONS } from '../../libs/webhooks/src/dashboard/dashboard-options.js';
import { KEYS_OPTIONS } from '../../libs/webhooks/src/keys/webhooks-keys.module.js';
import {
  flag,
  resolveTable,
  whole,
  type AnyOptionTable,
  type OptionTable,
} from '../../libs/webhooks/src/option-table.js';
import { resolveOptions, WEBHOOKS_MODULE_OPTIONS } from '../../libs/webhooks/src/options/resolve-options.js';
import {
  INCOMING_WEBHOOKS_OPTIONS,
  resolveIncomingWebhooksOptions,
} from '../../libs/webhooks/src/receiver/nest/incoming-webhooks-options.js';
import { TELEMETRY_OPTIONS } from '../../libs/webhooks/src/otel/webhooks-telemetry.module.js';
import { SHARDS_OPTIONS } from '../../libs/webhooks/src/shards/webhooks-shards.module.js';
import { VERIFY_OPTIONS } from '../../libs/webhooks/src/verify/webhooks-verify.module.js';

const SECRET = generateSecret();

/** The tables of each module, and the options that it requires. */
const MODULES: [name: string, table: AnyOptionTable, required: object][] = [
  ['WebhooksModule', WEBHOOKS_MODULE_OPTIONS, { security: { proxy: { url: 'http://proxy:3128' } } }],
  ['IncomingWebhooksModule', INCOMING_WEBHOOKS_OPTIONS, { sources: { a: { secrets: SECRET } } }],
  ['WebhooksVerifyModule', VERIFY_OPTIONS, {}],
  ['WebhooksKeysModule', KEYS_OPTIONS, {}],
  ['WebhooksDashboardModule', DASHBOARD_OPTIONS, {}],
  ['bullmqEngine()', BULLMQ_OPTIONS, { connection: {} }],
  ['WebhooksTelemetryModule', TELEMETRY_OPTIONS, {}],
  ['WebhooksShardsModule', SHARDS_OPTIONS, { dataSources: ['eu'], shardOf: () => 'eu' }],
  [
    'WebhooksApiModule',
    API_OPTIONS,
    { access: () => null, sessions: { keys: [{ id: 'a', key: Buffer.alloc(32).toString('base64') }] } },
  ],
];

/** Checked where their providers are made, with another code: `INVALID_PART`. */
const UNCHECKED = ['parts.transport', 'parts.retrySchedule', 'parts.archive'];

interface Listed {
  readonly path: string;
  readonly allowed: string;
}

/** Every option and every group of a table. A group without a row has no `allowed`. */
function listed(table: AnyOptionTable, prefix = ''): Listed[] {
  return Object.entries(table).flatMap(([key, { allowed = '', table: inner }]) => {
    const path = prefix + key.replace('<name>', 'a');
    return [{ path, allowed }, ...(inner ? listed(inner, `${path}.`) : [])];
  });
}

/** The options with one of them replaced. */
function withOption(options: object, path: string, value: unknown): object {
  const [key = '', ...rest] = path.split('.');
  const inner: unknown = (options as Record<string, unknown>)[key];
  return { ...options, [key]: rest.length > 0 ? withOption(inner ?? {}, rest.join('.'), value) : value };
}

describe.each(MODULES)('an option of %s', (name, table, required) => {
  const errorOf = (path: string, value: unknown): unknown => {
    try {
      resolveTable(table, withOption(required, path, value) as never, { name });
      return null;
    } catch (error) {
      return error;
    }
  };
  const refused = (path: string, ...texts: string[]) => ({
    code: 'INVALID_OPTION',
    details: { key: path },
    message: expect.stringMatching(new RegExp(texts.map((text) => `(?=.*${escaped(text)})`).join(''))) as string,
  });

  const options = listed(table).filter(({ path }) => !UNCHECKED.includes(path));
  const groups = ['', ...listed(table).flatMap(({ path }) => /^(.*\.)/.exec(path)?.[1] ?? [])];

  it.each([...new Set(groups)].filter((group) => group !== 'sources.'))(
    'with an unknown key in the group "%s" is refused',
    (group) => {
      const path = `${group}unknownKey`;
      const { code, details, message } = refused(path, `\`${path}\` of ${name}`, 'Known: ');
      expect(errorOf(path, 1)).toMatchObject({ code, details, message });
    },
  );

  it.each(options)('$path with a value of a wrong type is refused', ({ path }) => {
    expect(errorOf(path, -1.5)).toMatchObject(
      refused(path, `Invalid value -1.5 for \`${path}\` of ${name}. Allowed: `),
    );
    expect(errorOf(path, null)).toMatchObject(
      refused(path, `Invalid value null for \`${path}\` of ${name}. Allowed: `),
    );
  });

  const ranges = options.flatMap(({ path, allowed }) => {
    const [, min, max] = /^(?:\w+, )?([\d,]+)(?: \(.*?\))? to ([\d,]+)(?: \(.*\))?$/.exec(allowed) ?? [];
    return min && max ? [{ path, allowed, min: numberOf(min), max: numberOf(max) }] : [];
  });

  it.runIf(ranges.length > 0).each(ranges)('$path is refused outside of its documented range, $allowed', (range) => {
    const { path, allowed, min, max } = range;
    for (const value of [min - 1, max + 1]) {
      const end = allowed.replace(/^\w+, /, '');
      expect(errorOf(path, value)).toMatchObject(refused(path, `Invalid value ${value} for`, `from ${end}.`));
    }
    for (const value of [min, max]) expect(String(errorOf(path, value))).not.toContain('a whole number');
  });
});

function numberOf(text: string): number {
  return Number(text.replaceAll(',', ''));
}

describe('without options', () => {
  it('WebhooksModule has the documented defaults, frozen', () => {
    const options = resolveOptions({});
    expect(options).toMatchObject({
      tablePrefix: 'webhook_',
      capture: 'orm',
      dispatch: 'queued',
      dispatcher: {
        concurrency: 64,
        concurrencyPerOwner: 32,
        leaseMs: 60_000,
        maxAgeMs: 2_592_000_000,
        circuit: { failures: 10, disableAfterMs: 432_000_000 },
      },
      wakeUp: { url: undefined },
      secrets: { keys: [], requireSealed: false, rotationOverlapMs: 86_400_000 },
      retention: { succeededMs: 2_592_000_000, failedMs: 7_776_000_000 },
      security: { allowHttp: false, allowedPorts: 'any', proxy: null },
    });
    for (const group of [options, options.dispatcher, options.dispatcher.circuit, options.security])
      expect(Object.isFrozen(group)).toBe(true);
  });

  it('`concurrencyPerOwner` is half of the given concurrency', () => {
    expect(resolveOptions({ dispatcher: { concurrency: 9 } }).dispatcher.concurrencyPerOwner).toBe(5);
  });

  it('IncomingWebhooksModule has the documented defaults', async () => {
    const { sources, ...rest } = await resolveIncomingWebhooksOptions({
      sources: { a: { secrets: SECRET } },
      inbox: {},
    });
    expect(sources.get('a')).toMatchObject({ scheme: { name: 'standard' }, toleranceSeconds: 300, id: undefined });
    expect(rest).toEqual({
      inbox: { tablePrefix: 'webhook_', tableSchema: undefined, retentionMs: 2_592_000_000 },
      rawBody: 'nest',
      maxBodyBytes: 1_048_576,
    });
  });
});

describe('a group that can be off', () => {
  it('is off with `false`', () => {
    expect(resolveOptions({ retention: false, wakeUp: false })).toMatchObject({ retention: false, wakeUp: false });
  });
});

describe('a table that differs from its interface', () => {
  interface Options {
    isOn?: boolean;
    limit?: number;
  }

  it('does not compile', () => {
    const limit = whole(1, [1, 2]);
    // @ts-expect-error -- the option `isOn` is missing
    const missing = { limit } satisfies OptionTable<Options>;
    // @ts-expect-error -- the interface has no option `name`
    const more = { limit, isOn: flag(true), name: flag(true) } satisfies OptionTable<Options>;
    // @ts-expect-error -- the option `isOn` has another type
    const other = { limit, isOn: limit } satisfies OptionTable<Options>;
    expect([missing, more, other]).toHaveLength(3);
  });
});

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
