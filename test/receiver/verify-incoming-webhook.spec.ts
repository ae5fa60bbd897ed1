import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';

import { ConfigurationError } from '../../libs/webhooks/src/errors.js';
import {
  GoogleCodeScheme,
  verifyIncomingWebhook,
  IncomingWebhookError,
  type VerifyIncomingWebhookOptions,
} from '../../libs/webhooks/src/receiver/index.js';
import { generateSecret } from '../../libs/webhooks/src/signing/index.js';

const SECRET = generateSecret();
const NOW = 1_700_000_000;
const PAYLOAD = {
  type: 'order.updated',
  timestamp: '2023-11-14T22:13:20.000Z',
  data: { id: 7, note: '𝕏🦜' },
  previous: { note: 'x' },
};

/** A request that the reference implementation signs. */
function request(body: string = JSON.stringify(PAYLOAD), timestamp = NOW): VerifyIncomingWebhookOptions {
  return {
    headers: {
      'webhook-id': 'evt_1',
      'webhook-timestamp': String(timestamp),
      'webhook-signature': new Webhook(SECRET).sign('evt_1', new Date(timestamp * 1000), body),
    },
    body: Buffer.from(body),
    secrets: SECRET,
    now: NOW * 1000,
  };
}

function refusal(options: VerifyIncomingWebhookOptions): string {
  try {
    verifyIncomingWebhook(options);
  } catch (error) {
    expect(error).toBeInstanceOf(IncomingWebhookError);
    return (error as IncomingWebhookError).code;
  }
  return 'accepted';
}

describe('a genuine webhook', () => {
  it('returns id, timestamp, depth, type, data, previous and the complete payload', () => {
    expect(verifyIncomingWebhook(request())).toEqual({
      id: 'evt_1',
      timestamp: NOW,
      depth: 0,
      type: 'order.updated',
      data: PAYLOAD.data,
      previous: PAYLOAD.previous,
      payload: PAYLOAD,
    });
  });

  it('has no previous when the payload has none', () => {
    expect(verifyIncomingWebhook(request('{"type":"a","data":null}'))).not.toHaveProperty('previous');
  });

  it.each<[string, (headers: Record<string, string>) => VerifyIncomingWebhookOptions['headers']]>([
    ['a Fetch Headers', (headers) => new Headers(headers)],
    ['a Map', (headers) => new Map(Object.entries(headers))],
    [
      'names in any case',
      (headers) => Object.fromEntries(Object.entries(headers).map(([k, v]) => [k.toUpperCase(), v])),
    ],
    ['Node headers with lists and gaps', (headers) => ({ ...headers, 'set-cookie': ['a', 'b'], via: undefined })],
    ['lists of one', (headers) => Object.fromEntries(Object.entries(headers).map(([k, v]) => [k, [v]]))],
  ])('is read from %s', (_name, change) => {
    const good = request();
    expect(verifyIncomingWebhook({ ...good, headers: change(good.headers as Record<string, string>) }).type).toBe(
      'order.updated',
    );
  });

  it('may have its body in a string, or in a view of a larger buffer', () => {
    const good = request();
    const text = good.body.toString();
    expect(verifyIncomingWebhook({ ...good, body: text }).id).toBe('evt_1');
    const bytes = new TextEncoder().encode(`__${text}__`);
    expect(verifyIncomingWebhook({ ...good, body: bytes.subarray(2, bytes.length - 2) }).id).toBe('evt_1');
  });

  it('may be signed with any of several secrets', () => {
    expect(verifyIncomingWebhook({ ...request(), secrets: [generateSecret(), SECRET] }).id).toBe('evt_1');
  });

  it('may have a timestamp as far in the past or future as the tolerance allows', () => {
    for (const offset of [-300, 300]) expect(refusal(request(undefined, NOW + offset))).toBe('accepted');
    expect(refusal({ ...request(undefined, NOW - 10), toleranceSeconds: 9 })).toBe('TIMESTAMP_TOO_OLD');
  });

  it('may be signed by another scheme', () => {
    const scheme = new GoogleCodeScheme();
    const body = Buffer.from('{"type":"a","data":1}');
    const signed = scheme.sign({ id: 'evt_1', timestamp: NOW, body, secrets: ['old style'] });
    const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': String(NOW), ...signed };
    expect(verifyIncomingWebhook({ headers, body, secrets: 'old style', scheme, now: NOW * 1000 }).data).toBe(1);
    expect(refusal({ headers, body, secrets: 'other', scheme, now: NOW * 1000 })).toBe('SIGNATURE_MISMATCH');
  });
});

describe('a webhook is rejected', () => {
  const headers = request().headers as Record<string, string>;

  it.each([
    ['too old', request(undefined, NOW - 301), 'TIMESTAMP_TOO_OLD'],
    ['from the future', request(undefined, NOW + 301), 'TIMESTAMP_IN_FUTURE'],
    ['with a changed body', { ...request(), body: JSON.stringify({ ...PAYLOAD, data: {} }) }, 'SIGNATURE_MISMATCH'],
    [
      'with a body that was parsed and written again',
      { ...request('{ "type":"a" }'), body: '{"type":"a"}' },
      'SIGNATURE_MISMATCH',
    ],
    ['with another id', { ...request(), headers: { ...headers, 'webhook-id': 'evt_2' } }, 'SIGNATURE_MISMATCH'],
    [
      'with another timestamp',
      { ...request(), headers: { ...headers, 'webhook-timestamp': String(NOW - 1) } },
      'SIGNATURE_MISMATCH',
    ],
    ['with another secret', { ...request(), secrets: generateSecret() }, 'SIGNATURE_MISMATCH'],
    [
      'with an old timestamp and a wrong signature',
      { ...request(undefined, 1), secrets: generateSecret() },
      'SIGNATURE_MISMATCH',
    ],
    [
      'with two signature headers',
      { ...request(), headers: { ...headers, 'Webhook-Signature': 'v1,x' } },
      'MISSING_HEADER',
    ],
    ['without JSON', request('hello'), 'INVALID_PAYLOAD'],
    ['with an empty body', request(''), 'INVALID_PAYLOAD'],
    ['with a JSON list', request('[]'), 'INVALID_PAYLOAD'],
    ['with null', request('null'), 'INVALID_PAYLOAD'],
    ['without a type', request('{"data":{}}'), 'INVALID_PAYLOAD'],
    ['with a type that is not a string', request('{"type":1}'), 'INVALID_PAYLOAD'],
  ] as [string, VerifyIncomingWebhookOptions, string][])('%s', (_name, options, code) => {
    expect(refusal(options)).toBe(code);
  });

  it.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])('without the header %s', (name) => {
    expect(refusal({ ...request(), headers: { ...headers, [name]: undefined } })).toBe('MISSING_HEADER');
  });

  it.each([
    '',
    ' 1700000000',
    '1700000000 ',
    '1700000000abc',
    '1700000000.0',
    '1.7e9',
    '+1700000000',
    '-1',
    '0x65',
    '01700000000',
    '1700000000000000',
    'NaN',
  ])('with the timestamp %j', (text) => {
    expect(refusal({ ...request(), headers: { ...headers, 'webhook-timestamp': text } })).toBe('INVALID_TIMESTAMP');
  });
});

describe('a mistake of the receiver', () => {
  it.each([
    ['no secret', { secrets: '' }],
    ['an empty list of secrets', { secrets: [] }],
    ['a secret that is unset', { secrets: [undefined as unknown as string] }],
    ['an invalid secret', { secrets: 'whsec_*' }],
    ['a parsed body', { body: PAYLOAD as unknown as string }],
    ['a tolerance that is not a number', { toleranceSeconds: Number.NaN }],
  ])('is a ConfigurationError: %s', (_name, change) => {
    expect(() => verifyIncomingWebhook({ ...request(), ...change })).toThrow(ConfigurationError);
  });
});
