// Base64. cspell:ignore ILPZ Papi Mlrw
import { inspect } from 'node:util';

import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { describe, expect, it } from 'vitest';

import { BadRequestError, ConfigurationError } from '../../libs/webhooks/src/errors.js';
import {
  assertSecret,
  generateSecret,
  generateSigningKey,
  GithubScheme,
  GoogleCodeScheme,
  keySetOf,
  publicKeyOf,
  StandardScheme,
  StandardV1aScheme,
  StripeScheme,
} from '../../libs/webhooks/src/signing/index.js';
import { assertSigningKey } from '../../libs/webhooks/src/signing/ed25519-key.js';

/** The test vector of the Standard Webhooks specification and its reference libraries. */
const VECTOR = {
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: 1614265330,
  body: Buffer.from('{"test": 2432232314}'),
  secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
};

const OLD = generateSecret();
const NEW = generateSecret();
/** Characters of four bytes in UTF-8: a length in UTF-16 units would be wrong. */
const FOUR_BYTES = Buffer.from(JSON.stringify({ type: 'note.created', data: { text: '𝕏🦜'.repeat(1000) } }));

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe('the standard scheme', () => {
  const scheme = new StandardScheme();
  const { id, timestamp, body, secret, signature } = VECTOR;

  it('signs the vector of the specification', () => {
    expect(scheme.sign({ id, timestamp, body, secrets: [secret] })).toEqual({ 'webhook-signature': signature });
  });

  it('accepts a secret without its prefix, as the reference libraries do', () => {
    expect(scheme.sign({ id, timestamp, body, secrets: [secret.slice('whsec_'.length)] })['webhook-signature']).toBe(
      signature,
    );
  });

  it('makes signatures that the standardwebhooks package accepts, over four-byte characters', () => {
    const now = Math.floor(Date.now() / 1000);
    const headers = scheme.sign({ id, timestamp: now, body: FOUR_BYTES, secrets: [NEW] });
    const sent = { ...headers, 'webhook-id': id, 'webhook-timestamp': String(now) };
    expect(new Webhook(NEW).verify(FOUR_BYTES, sent)).toEqual(JSON.parse(FOUR_BYTES.toString()));
  });

  it('makes signatures that the svix package accepts under its header names', () => {
    const now = String(Math.floor(Date.now() / 1000));
    const signature = scheme.sign({ id, timestamp: Number(now), body: FOUR_BYTES, secrets: [NEW, OLD] });
    const sent = { ...signature, 'webhook-id': id, 'webhook-timestamp': now };
    for (const held of [NEW, OLD]) {
      expect(new SvixWebhook(held).verify(FOUR_BYTES, sent)).toEqual(JSON.parse(FOUR_BYTES.toString()));
    }
    expect(() => new SvixWebhook(generateSecret()).verify(FOUR_BYTES, sent)).toThrow('No matching signature');
  });

  it.each([
    ['standardwebhooks', Webhook],
    ['svix', SvixWebhook],
  ])('accepts signatures of the %s package', (_name, Library) => {
    const at = new Date(timestamp * 1000);
    const headers = { 'webhook-signature': new Library(NEW).sign(id, at, FOUR_BYTES) };
    expect(scheme.verify({ id, timestamp, body: FOUR_BYTES, secrets: [NEW], headers })).toBe(true);
  });

  it('signs with every secret during the overlap of a rotation, newest first, so that old and new receivers accept', () => {
    const now = Math.floor(Date.now() / 1000);
    const headers = scheme.sign({ id, timestamp: now, body, secrets: [NEW, OLD] });
    const [first, second, ...rest] = headers['webhook-signature']?.split(' ') ?? [];
    expect(rest).toEqual([]);
    expect(first).toBe(scheme.sign({ id, timestamp: now, body, secrets: [NEW] })['webhook-signature']);
    expect(second).toBe(scheme.sign({ id, timestamp: now, body, secrets: [OLD] })['webhook-signature']);
    const sent = { ...headers, 'webhook-id': id, 'webhook-timestamp': String(now) };
    for (const held of [NEW, OLD]) expect(() => new Webhook(held).verify(body, sent)).not.toThrow();
  });

  it.each([
    ['another id', { id: 'msg_other' }],
    ['another timestamp', { timestamp: timestamp + 1 }],
    ['another body', { body: Buffer.from('{"test": 2432232315}') }],
    ['another secret', { secrets: [OLD] }],
    ['no secret', { secrets: [] }],
    ['no signature', { headers: {} }],
    ['an empty signature', { headers: { 'webhook-signature': '' } }],
    ['a signature that is cut', { headers: { 'webhook-signature': signature.slice(0, -4) } }],
    ['a signature of another version', { headers: { 'webhook-signature': signature.replace('v1', 'v2') } }],
    ['a signature without version', { headers: { 'webhook-signature': signature.slice(3) } }],
  ])('refuses %s', (_name, change) => {
    const good = { id, timestamp, body, secrets: [secret], headers: { 'webhook-signature': signature } };
    expect(scheme.verify(good)).toBe(true);
    expect(scheme.verify({ ...good, ...change })).toBe(false);
  });

  it('finds a valid signature among others, and its secret among others', () => {
    const headers = { 'webhook-signature': `v1a,xyz v1,AAAA ${signature} v2,${signature.slice(3)}` };
    expect(scheme.verify({ id, timestamp, body, secrets: [OLD, secret], headers })).toBe(true);
  });

  it('refuses an invalid stored secret without repeating it', () => {
    const sign = () => scheme.sign({ id, timestamp, body, secrets: ['whsec_not*base64'] });
    expect(sign).toThrow(ConfigurationError);
    expect(sign).not.toThrow(/not\*base64/);
    expect(codeOf(sign)).toBe('INVALID_SECRET');
  });

  it('does not show cached secrets to a debugger', () => {
    scheme.sign({ id, timestamp, body, secrets: [NEW] });
    expect(inspect(scheme, { depth: 10, showHidden: true })).not.toContain(NEW.slice(6));
    expect(JSON.stringify(scheme)).not.toContain(NEW.slice(6));
  });
});

/** The test vector of the Svix server, which defined `v1a`. The documentation of Svix has its Ed25519 key. */
const V1A = {
  ...VECTOR,
  privateKey: 'whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==',
  publicKey: 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=',
  signature: 'v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
};

describe('the standard scheme with an Ed25519 key', () => {
  const scheme = new StandardScheme();
  const { id, timestamp, body, privateKey, publicKey, signature } = V1A;
  const input = { id, timestamp, body };

  it('signs the vector of the Svix server, and accepts it by the public key', () => {
    expect(scheme.sign({ ...input, secrets: [privateKey] })).toEqual({ 'webhook-signature': signature });
    const headers = { 'webhook-signature': signature };
    expect(scheme.verify({ ...input, secrets: [publicKey], headers })).toBe(true);
    expect(scheme.verify({ ...input, secrets: [privateKey], headers })).toBe(true);
  });

  it('signs v1 and v1a together, and either key verifies', () => {
    const headers = scheme.sign({ ...input, secrets: [VECTOR.secret, privateKey] });
    expect(headers['webhook-signature']).toBe(`${VECTOR.signature} ${signature}`);
    expect(scheme.verify({ ...input, secrets: [publicKey], headers })).toBe(true);
    expect(scheme.verify({ ...input, secrets: [VECTOR.secret], headers })).toBe(true);
    const now = Math.floor(Date.now() / 1000);
    const sent = scheme.sign({ ...input, timestamp: now, secrets: [privateKey, NEW] });
    const received = { ...sent, 'webhook-id': id, 'webhook-timestamp': String(now) };
    expect(() => new Webhook(NEW).verify(body, received)).not.toThrow();
  });

  const other = generateSigningKey();

  it.each([
    ['another id', { id: 'msg_other' }],
    ['another timestamp', { timestamp: timestamp + 1 }],
    ['another body', { body: Buffer.from('{"test": 2432232315}') }],
    ['another public key', { secrets: [other.publicKey] }],
    ['a secret of the other kind', { secrets: [NEW] }],
    ['no key', { secrets: [] }],
    ['a signature under the other version', { headers: { 'webhook-signature': signature.replace('v1a', 'v1') } }],
    ['a signature that is cut', { headers: { 'webhook-signature': signature.slice(0, -4) } }],
    [
      'a signature in base64url',
      { headers: { 'webhook-signature': signature.replaceAll('/', '_').replaceAll('+', '-') } },
    ],
    ['a signature of zeros', { headers: { 'webhook-signature': `v1a,${Buffer.alloc(64).toString('base64')}` } }],
    ['a signature with a changed bit', { headers: { 'webhook-signature': signature.replace('hnO3', 'hnO2') } }],
  ])('refuses %s', (_name, change) => {
    const good = { ...input, secrets: [publicKey], headers: { 'webhook-signature': signature } };
    expect(scheme.verify(good)).toBe(true);
    expect(scheme.verify({ ...good, ...change })).toBe(false);
  });

  it('never uses a public key as a shared secret', () => {
    // If the public key were used as an HMAC key, anybody could compute this signature.
    const forged = new Webhook(Buffer.from(publicKey.slice(5), 'base64'), { format: 'raw' });
    const headers = { 'webhook-signature': forged.sign(id, new Date(timestamp * 1000), body) };
    expect(scheme.verify({ ...input, secrets: [publicKey], headers })).toBe(false);
    expect(codeOf(() => scheme.sign({ ...input, secrets: [publicKey] }))).toBe('INVALID_SECRET');
  });

  it('verifies at most 32 signatures, because each costs the receiver time', () => {
    const noise = `v1a,${Buffer.alloc(64, 1).toString('base64')}`;
    const after = (count: number) => ({ 'webhook-signature': `${`${noise} `.repeat(count)}${signature}` });
    expect(scheme.verify({ ...input, secrets: [publicKey], headers: after(31) })).toBe(true);
    expect(scheme.verify({ ...input, secrets: [publicKey], headers: after(32) })).toBe(false);
  });

  it('verifies fewer signatures of a large body by many keys, the first ones', () => {
    const large = { ...input, body: Buffer.alloc(1_024 * 1_024, 'x') };
    const signed = scheme.sign({ ...large, secrets: [privateKey] })['webhook-signature'] ?? '';
    const others = Array.from({ length: 2 }, () => generateSigningKey().publicKey);
    const noise = `v1a,${Buffer.alloc(64, 1).toString('base64')}`;
    const verifies = (before: number) =>
      scheme.verify({
        ...large,
        secrets: [...others, publicKey],
        headers: { 'webhook-signature': `${`${noise} `.repeat(before)}${signed}` },
      });
    expect([verifies(1), verifies(2)]).toEqual([true, false]);
  });

  it.each(['whpk_', 'whpk_AAAA', `${publicKey}A`, publicKey.replace('1', '*'), `whpk_${V1A.privateKey.slice(5)}`])(
    'names a key that is none, %s, whatever arrived',
    (key) => {
      expect(codeOf(() => scheme.verify({ ...input, secrets: [key], headers: {} }))).toBe('INVALID_SECRET');
    },
  );

  it('is a separate scheme for listeners, which have keys of both types', () => {
    const forListeners = new StandardV1aScheme();
    expect([forListeners.name, forListeners.keyType]).toEqual(['standard-v1a', 'ed25519']);
    expect(forListeners.sign({ ...input, secrets: [privateKey] })).toEqual({ 'webhook-signature': signature });
    expect(inspect(forListeners, { depth: 10, showHidden: true })).not.toContain(privateKey.slice(5));
  });
});

describe('an Ed25519 key pair', () => {
  it('has the form of Standard Webhooks: the private key is followed by its public key', () => {
    const pair = generateSigningKey();
    expect(pair.privateKey).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/);
    expect(pair.publicKey).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/);
    expect(publicKeyOf(pair.privateKey)).toBe(pair.publicKey);
    expect(assertSigningKey(pair.privateKey)).toBe(pair.publicKey);
    expect(pair.privateKey).not.toBe(generateSigningKey().privateKey);
    expect(publicKeyOf(V1A.privateKey)).toBe(V1A.publicKey);
  });

  it('may be given as its 32 private bytes alone', () => {
    const seed = Buffer.from(V1A.privateKey.slice(5), 'base64').subarray(0, 32);
    expect(assertSigningKey(`whsk_${seed.toString('base64')}`)).toBe(V1A.publicKey);
  });

  it.each([
    ['is a public one', V1A.publicKey],
    ['has another prefix', V1A.privateKey.replace('whsk_', 'whsec_')],
    ['is cut', V1A.privateKey.slice(0, -4)],
    // Also a test vector of the Svix server.
    ['has halves that do not belong together', V1A.privateKey.replace('X0dRqSKJp4AJ', 'aaaaaaaaaaAJ')],
    ['is no text', 42],
  ])('is refused when it %s, and the message does not repeat it', (_name, key) => {
    const run = () => assertSigningKey(key);
    expect(codeOf(run)).toBe('INVALID_SECRET');
    expect(run).not.toThrow(/6Xb|1SiA/);
  });

  it('is served as a JSON Web Key Set that Node reads, with the thumbprint of RFC 8037 for an id', async () => {
    // RFC 8037, appendices A.2 and A.3.
    const x = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo';
    const publicKey = `whpk_${Buffer.from(x, 'base64url').toString('base64')}`;
    const set = keySetOf([publicKey, V1A.publicKey]);
    expect(set.keys[0]).toEqual({
      ...{ kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig', x, whpk: publicKey },
      kid: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k',
    });
    const { createPublicKey, verify } = await import('node:crypto');
    const key = createPublicKey({ key: { ...set.keys[1] }, format: 'jwk' });
    const signed = Buffer.from(`${V1A.id}.${V1A.timestamp}.${V1A.body.toString()}`);
    expect(verify(null, signed, key, Buffer.from(V1A.signature.slice(4), 'base64'))).toBe(true);
  });
});

describe('the github scheme', () => {
  const scheme = new GithubScheme();
  /** The example of GitHub's documentation. */
  const input = { id: 'evt_1', timestamp: 1, body: Buffer.from('Hello, World!') };
  const secret = "It's a Secret to Everybody";
  const value = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17';

  it('signs the vector of its documentation', () => {
    expect(scheme.sign({ ...input, secrets: [secret] })).toEqual({ 'X-Hub-Signature-256': value });
    expect(scheme.verify({ ...input, secrets: [secret], headers: { 'x-hub-signature-256': value } })).toBe(true);
  });

  it('signs with the newest secret, and accepts each secret', () => {
    expect(scheme.sign({ ...input, secrets: [secret, 'old'] })).toEqual({ 'X-Hub-Signature-256': value });
    const headers = { 'x-hub-signature-256': value };
    expect(scheme.verify({ ...input, secrets: ['new', secret], headers })).toBe(true);
    expect(scheme.verify({ ...input, secrets: ['new'], headers })).toBe(false);
    expect(scheme.verify({ ...input, secrets: [], headers })).toBe(false);
    expect(scheme.verify({ ...input, body: Buffer.from('Hello, World?'), secrets: [secret], headers })).toBe(false);
  });

  it.each([
    undefined,
    '',
    'sha256=',
    value.slice(7),
    value.replace('sha256', 'sha1'),
    value.slice(0, -2),
    `${value}00`,
    ` ${value}`,
  ])('refuses the header %j', (given) => {
    expect(scheme.verify({ ...input, secrets: [secret], headers: { 'x-hub-signature-256': given } })).toBe(false);
  });
});

describe('the stripe scheme', () => {
  const scheme = new StripeScheme();
  /** Computed by `printf '1492774577.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test_secret`. */
  const HEX = '799c4ba7bb339f3c8601adfd112f0e477c930a268be1243d341abb8286501c2f';
  const input = { id: 'evt_1', timestamp: 1_492_774_577, body: Buffer.from('{"id":"evt_1"}') };
  const secret = 'whsec_test_secret';
  const verify = (given: string | undefined, secrets = [secret]) =>
    scheme.verify({ ...input, secrets, headers: { 'stripe-signature': given } });

  it('signs with the time and the HMAC-SHA256 over time and body, with the unchanged secret as the key', () => {
    expect(scheme.sign({ ...input, secrets: [secret] })).toEqual({ 'Stripe-Signature': `t=1492774577,v1=${HEX}` });
    expect(verify(`t=1492774577,v1=${HEX}`)).toBe(true);
  });

  it('signs with every secret during the overlap of a rotation, and accepts each', () => {
    const [value] = Object.values(scheme.sign({ ...input, secrets: ['new', secret] }));
    expect(value).toMatch(/^t=1492774577,v1=[0-9a-f]{64},v1=[0-9a-f]{64}$/);
    for (const held of ['new', secret]) expect(verify(value, [held])).toBe(true);
    expect(verify(value, ['other', secret])).toBe(true);
    expect(verify(value, ['other'])).toBe(false);
    expect(scheme.sign({ ...input, secrets: [] })).toEqual({});
  });

  it('finds its signature among other versions, as in the header of a Stripe test event', () => {
    expect(verify(`t=1492774577,v1=${HEX},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39`)).toBe(
      true,
    );
  });

  it.each([
    undefined,
    '',
    `v1=${HEX}`,
    `t=1492774577`,
    `t=1492774578,v1=${HEX}`,
    `t=01492774577,v1=${HEX}`,
    `t=1492774577,t=1492774577,v1=${HEX}`,
    `t=1492774577,v0=${HEX}`,
    `t=1492774577,v1=${HEX.slice(2)}`,
    `t=1492774577,v1=${HEX}00`,
    `t=1492774577;v1=${HEX}`,
  ])('refuses the header %j', (given) => {
    expect(verify(given)).toBe(false);
  });
});

describe('the google-code scheme', () => {
  const scheme = new GoogleCodeScheme();
  const input = { id: 'evt_1', timestamp: 1, body: Buffer.from('what do ya want for nothing?') };
  /** RFC 2202, HMAC-MD5, test case 2. */
  const RFC_2202 = '750c783e6ab0b503eaa86e310a5db738';

  it('signs with the hex HMAC-MD5 of the body, with the unchanged secret as the key', () => {
    expect(scheme.sign({ ...input, secrets: ['Jefe'] })).toEqual({ 'Google-Code-Project-Hosting-Hook-Hmac': RFC_2202 });
  });

  it('signs with the newest secret, and accepts each secret', () => {
    expect(Object.values(scheme.sign({ ...input, secrets: ['Jefe', 'old'] }))).toEqual([RFC_2202]);
    const headers = { 'google-code-project-hosting-hook-hmac': RFC_2202 };
    expect(scheme.verify({ ...input, secrets: ['new', 'Jefe'], headers })).toBe(true);
    expect(scheme.verify({ ...input, secrets: ['new'], headers })).toBe(false);
    expect(scheme.verify({ ...input, body: Buffer.from('x'), secrets: ['Jefe'], headers })).toBe(false);
  });

  it.each([undefined, '', 'zz', RFC_2202.slice(2), `${RFC_2202}00`, ` ${RFC_2202}`])(
    'refuses the header %j',
    (value) => {
      const headers = { 'google-code-project-hosting-hook-hmac': value };
      expect(scheme.verify({ ...input, secrets: ['Jefe'], headers })).toBe(false);
    },
  );
});

describe('a secret', () => {
  it('is whsec_ and 32 random bytes when generated', () => {
    const secret = generateSecret();
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(secret).not.toBe(generateSecret());
    expect(() => assertSecret(secret)).not.toThrow();
  });

  const ofBytes = (count: number) => `whsec_${Buffer.alloc(count, 0xfb).toString('base64')}`;

  it.each([
    ['too short', 23],
    ['too long', 65],
  ])('is also refused by the standard scheme when %s', (_name, count) => {
    const input = { id: 'evt_1', timestamp: 1, body: Buffer.from('{}'), secrets: [ofBytes(count)] };
    expect(codeOf(() => new StandardScheme().sign(input))).toBe('INVALID_SECRET');
    expect(codeOf(() => new StandardScheme().verify({ ...input, headers: {} }))).toBe('INVALID_SECRET');
  });

  it.each([ofBytes(24), ofBytes(25), ofBytes(64), ofBytes(25).replace(/=+$/, '')])('may be %s', (secret) => {
    expect(() => assertSecret(secret)).not.toThrow();
  });

  it.each([
    ['too short', ofBytes(23)],
    ['too long', ofBytes(65)],
    ['without its prefix', ofBytes(32).slice(6)],
    ['with another prefix', ofBytes(32).replace('whsec_', 'whsk_')],
    ['empty', 'whsec_'],
    ['base64url', ofBytes(32).replaceAll('+', '-').replaceAll('/', '_')],
    ['with a space in it', ofBytes(32).replace('+', ' ')],
    ['with a line end', `${ofBytes(32)}\n`],
    ['with bits left over', `whsec_${'A'.repeat(42)}B=`],
    ['no text', 42],
  ])('is refused when %s, and the message does not repeat it', (_name, secret) => {
    const run = () => assertSecret(secret);
    expect(run).toThrow(BadRequestError);
    expect(codeOf(run)).toBe('INVALID_SECRET');
    try {
      run();
    } catch (error) {
      const shown = inspect(error, { depth: 10 });
      for (const part of String(secret).slice(6).match(/.{8}/g) ?? []) expect(shown).not.toContain(part);
    }
  });
});
