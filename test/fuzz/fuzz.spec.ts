import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BadRequestError, ConfigurationError, GoogleCodeScheme } from 'nestjs-entity-webhooks';
import {
  verifyIncomingWebhook,
  IncomingWebhookError,
  type IncomingWebhookHeaders,
} from 'nestjs-entity-webhooks/receiver';
import { isDerivedInBoundedTime } from '../../libs/webhooks/src/listeners/credentials/encrypted-key.js';
import { compileFilter } from '../../libs/webhooks/src/routing/compile-filter.js';
import type { Filter } from '../../libs/webhooks/src/routing/filter.js';
import { matchesFilter } from '../../libs/webhooks/src/routing/match-filter.js';
import { OPERATORS } from '../../libs/webhooks/src/routing/operators.js';
import { assertTls } from '../../libs/webhooks/src/listeners/credentials/listener-tls.js';
import {
  AddressGuard,
  assertListenerHeaders,
  assertListenerUrl,
  resolveSecurityOptions,
  retryAfterMs,
} from '../../libs/webhooks/src/sending/index.js';
import { assertSecret } from '../../libs/webhooks/src/signing/secret.js';
import type { JsonObject } from '../../libs/webhooks/src/json.js';

/**
 * The total time: one minute with `npm run fuzz`, or `FUZZ_SECONDS`; two seconds together with the other tests. `FUZZ_SEED` repeats the
 * inputs of a run.
 */
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 2);
const SEED = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };
const SUBJECTS = 9;
const EACH_MS = (SECONDS * 1_000) / SUBJECTS;

/** Tries inputs until its share of the time is over; at least one. */
function fuzz<T>(title: string, given: fc.Arbitrary<T>, hold: (value: T) => void): void {
  it(
    `${title}`,
    () => {
      let runs = 0;
      const property = fc.property(given, (value) => {
        runs++;
        hold(value);
      });
      const limit = {
        interruptAfterTimeLimit: EACH_MS,
        markInterruptAsFailure: false,
        numRuns: Number.MAX_SAFE_INTEGER,
      };
      fc.assert(property, { ...limit, ...SEED });
      expect(runs).toBeGreaterThan(0);
      if (process.env.FUZZ_SECONDS !== undefined) console.log(`fuzz: ${title}: ${runs} tried`);
    },
    EACH_MS + 30_000,
  );
}

/** Returns the code of a documented refusal, or `accepted`; throws any other error. */
function codeOf(
  run: () => unknown,
  ...documented: (abstract new (...args: never[]) => { code: string } & Error)[]
): string {
  try {
    run();
    return 'accepted';
  } catch (error) {
    const known = documented.find((type) => error instanceof type);
    if (known === undefined) throw error;
    return (error as { code: string }).code;
  }
}

/** Any text, with many characters that mean something to a parser. */
const text = (...pieces: string[]): fc.Arbitrary<string> =>
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc
      .array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 4 })), { maxLength: 12 })
      .map((all) => all.join('')),
  );

/** Any value that JSON can contain or a program can pass. */
const anything = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withSparseArray: true });

describe('URLs', () => {
  const guard = new AddressGuard();
  const pieces = [
    'https://',
    'http:',
    '//',
    '\\',
    '@',
    ':',
    '[',
    ']',
    '::1',
    '127.0.0.1',
    '0x7f',
    '%00',
    '%2e',
    '。',
    '#',
    '?',
  ];
  const url = fc.oneof(
    text(...pieces),
    text(...pieces).map((rest) => `https://${rest}`),
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    anything,
  );
  const codes = ['accepted', 'INVALID_URL', 'URL_SCHEME', 'URL_CREDENTIALS', 'URL_ADDRESS_BLOCKED', 'URL_PORT_BLOCKED'];

  fuzz('of listeners are accepted in a form that says the same again, or refused with a code', url, (given) => {
    const options = resolveSecurityOptions({ allowedPorts: [443, 8443] });
    let stored: URL | undefined;
    const code = codeOf(() => (stored = assertListenerUrl(given as string, guard, options)), BadRequestError);
    expect(codes).toContain(code);
    if (stored === undefined) return;
    expect(assertListenerUrl(stored.href, guard, options).href).toBe(stored.href);
    expect([stored.protocol, stored.username, stored.password, stored.hash]).toEqual(['https:', '', '', '']);
  });

  const cidr = fc.oneof(text('/', '.', ':', '10.0.0.0', '::', '/8', '/129', '%'), anything);
  fuzz('and ranges of options are accepted or refused with a code', fc.array(cidr, { maxLength: 3 }), (ranges) => {
    const code = codeOf(() => resolveSecurityOptions({ allowedAddresses: ranges as string[] }), ConfigurationError);
    expect(['accepted', 'INVALID_OPTION']).toContain(code);
    // The answers of a resolver or a socket are checked, and cause no exception.
    for (const address of ranges)
      if (typeof address === 'string') expect(guard.isAllowed(address)).toBeTypeOf('boolean');
  });
});

describe('headers', () => {
  const name = fc.oneof(
    text('x-', 'Host', 'webhook-', 'proxy-', '__proto__', ':', '\r\n', ' ', 'content-length'),
    fc.string(),
  );
  const value = fc.oneof(text('\r\n', '\0', 'Bearer ', 'ä', ' '), anything);
  const headers = fc.oneof(fc.dictionary(name, value), anything);

  fuzz('of listeners can be sent, or are refused with a code', headers, (given) => {
    let checked: Record<string, string> = {};
    const code = codeOf(() => (checked = assertListenerHeaders(given as Record<string, string>)), BadRequestError);
    expect(['accepted', 'INVALID_HEADER']).toContain(code);
    // fetch's own check of names and values.
    expect(() => new Headers(checked)).not.toThrow();
    for (const key of Object.keys(checked))
      expect(key).toMatch(
        /^(?!(?:host|content-(?:length|type|encoding)|transfer-encoding)$|webhook-|proxy-)[^A-Z\s:]+$/,
      );
  });

  fuzz(
    'Retry-After is whole milliseconds up to the cap, or nothing',
    text('GMT', 'Sun, 06 Nov 1994 ', '08:49:37', '-', '1e', '9'),
    (given) => {
      const asked = retryAfterMs(given, Date.UTC(2026, 0, 1), 86_400_000);
      expect(asked === null || (Number.isInteger(asked) && asked >= 0 && asked <= 86_400_000)).toBe(true);
    },
  );
});

describe('signatures at a receiver', () => {
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  const codes = [
    ...['MISSING_HEADER', 'INVALID_TIMESTAMP', 'TIMESTAMP_TOO_OLD', 'TIMESTAMP_IN_FUTURE', 'SIGNATURE_MISMATCH'],
    ...['INVALID_PAYLOAD', 'INVALID_SECRET', 'RAW_BODY_MISSING'],
  ];
  const headerValue = fc.oneof(
    text('v1,', 'v1a,', 'v2,', ' ', ',', '=', '1614265330', 'evt_', '-', '1e9', 'whsec_'),
    fc.array(fc.string(), { maxLength: 3 }),
    fc.constant(undefined),
  );
  const headers = fc.record({
    'webhook-id': headerValue,
    'webhook-timestamp': headerValue,
    'webhook-signature': headerValue,
    'Webhook-Signature': headerValue,
    'google-code-project-hosting-hook-hmac': headerValue,
  });
  const given = fc.record({
    headers: fc.oneof(headers, fc.dictionary(fc.string(), headerValue)),
    body: fc.oneof(fc.string(), fc.uint8Array(), fc.json()),
    secrets: fc.oneof(
      fc.constant(secret),
      text('whsec_', 'MfKQ9r8G', '='),
      fc.array(text('whsec_', '='), { maxLength: 3 }),
    ),
    scheme: fc.constantFrom(undefined, new GoogleCodeScheme()),
    now: fc.constant(1_614_265_330_000),
  });

  fuzz('that nobody made are refused with a code', given, ({ headers: of, scheme, ...rest }) => {
    const code = codeOf(
      () => verifyIncomingWebhook({ ...rest, headers: of as IncomingWebhookHeaders, ...(scheme ? { scheme } : {}) }),
      IncomingWebhookError,
      ConfigurationError,
      BadRequestError,
    );
    expect(codes).toContain(code);
  });

  const id = fc.string({ unit: fc.constantFrom(...'abcdef0123456789_'), minLength: 1, maxLength: 40 });
  const payload = fc.oneof(
    fc.json(),
    fc.string(),
    fc.json().map((data) => `{"type":"a.b","data":${data}}`),
  );
  fuzz('over any payload give it back, or say that it is none', fc.tuple(id, payload), ([webhookId, body]) => {
    const key = Buffer.alloc(32, 7);
    const signature = createHmac('sha256', key).update(`${webhookId}.1614265330.${body}`).digest('base64');
    const signed = {
      'webhook-id': webhookId,
      'webhook-timestamp': '1614265330',
      'webhook-signature': `v1,${signature}`,
    };
    const options = { headers: signed, body, secrets: secret, now: 1_614_265_330_000 };
    const code = codeOf(() => expect(verifyIncomingWebhook(options).id).toBe(webhookId), IncomingWebhookError);
    expect(['accepted', 'INVALID_PAYLOAD']).toContain(code);
  });

  fuzz(
    'and secrets are accepted or refused with a code, and not repeated',
    fc.oneof(text('whsec_', '=', '+', '-'), anything),
    (given) => {
      try {
        assertSecret(given);
      } catch (error) {
        expect(error).toBeInstanceOf(BadRequestError);
        expect((error as BadRequestError).code).toBe('INVALID_SECRET');
        if (typeof given === 'string' && given.length > 12)
          expect((error as BadRequestError).message).not.toContain(given);
      }
    },
  );
});

describe('certificates and keys', () => {
  // Pieces of DER from an encrypted key: tags, lengths, the names of PBES2 and PBKDF2, a count.
  const pieces = [
    '30',
    '02',
    '04',
    '06',
    '80',
    '82',
    'ff',
    '00',
    '06092a864886f70d01050d',
    '06092a864886f70d01050c',
    '02020800',
  ];
  const der = fc.array(fc.constantFrom(...pieces), { maxLength: 24 }).map((all) => Buffer.from(all.join(''), 'hex'));
  const block = fc
    .tuple(
      fc.constantFrom('CERTIFICATE', 'PRIVATE KEY', 'ENCRYPTED PRIVATE KEY', 'EC PRIVATE KEY', 'EC PARAMETERS', 'X'),
      fc.oneof(der, fc.uint8Array({ maxLength: 80 }).map(Buffer.from)),
    )
    .map(([label, bytes]) => `-----BEGIN ${label}-----\n${bytes.toString('base64')}\n-----END ${label}-----\n`);
  const pem = fc.oneof(
    block,
    fc.array(block, { maxLength: 3 }).map((all) => all.join('')),
    text('-----BEGIN ', '-----'),
  );
  const field = fc.option(fc.oneof({ weight: 8, arbitrary: pem }, { weight: 1, arbitrary: anything }), {
    nil: undefined,
  });
  const tls = fc.oneof(
    { weight: 8, arbitrary: fc.record({ cert: field, key: field, passphrase: field, ca: field }) },
    { weight: 1, arbitrary: anything },
  );

  fuzz('of listeners are refused with a code', fc.tuple(tls, der), ([given, bytes]) => {
    // Also alone: a key is checked only after a valid certificate.
    expect(isDerivedInBoundedTime(bytes)).toBeTypeOf('boolean');
    const code = codeOf(() => assertTls(given, 0), BadRequestError);
    // `accepted` would need a certificate, and random input never makes one.
    expect(['INVALID_TLS', 'INVALID_CERTIFICATE', 'INVALID_PRIVATE_KEY']).toContain(code);
  });
});

describe('filters', () => {
  const path = text('status', 'total', '.', '..', '__proto__', 'constructor', 'previous', '*', '[0]');
  const json = fc.jsonValue({ maxDepth: 4 });
  const operator = fc.constantFrom<string>(...OPERATORS, 'and', '$gt', '__proto__');
  const condition = fc.oneof(json, fc.dictionary(operator, fc.oneof(json, anything), { maxKeys: 3 }), anything);
  const where = fc.oneof(fc.dictionary(path, condition, { maxKeys: 4 }), anything);
  const data = fc.oneof(fc.dictionary(fc.constantFrom('status', 'total', 'a'), json), fc.constant({}));
  const codes = ['accepted', 'INVALID_FILTER', 'UNKNOWN_OPERATOR', 'UNKNOWN_PROPERTY'];

  fuzz(
    'are refused with a code, or judge any payload, also after they were stored',
    fc.tuple(where, data, data),
    ([given, now, before]) => {
      let filter: Filter | undefined;
      const code = codeOf(
        () =>
          (filter = compileFilter(given, {
            find: (name) =>
              name.startsWith('a') ? undefined : { numeric: name.includes('total'), routable: name.includes('status') },
            names: () => ['status', 'total'],
          })),
        BadRequestError,
      );
      expect(codes).toContain(code);
      if (filter === undefined) return;
      const event = { data: now as JsonObject, previous: before as JsonObject };
      const verdict = matchesFilter(filter, event);
      expect(typeof verdict).toBe('boolean');
      expect(matchesFilter(JSON.parse(JSON.stringify(filter)) as Filter, event)).toBe(verdict);
    },
  );
});
