import { inspect } from 'node:util';

import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';

import { BadRequestError, ConfigurationError } from '../../libs/webhooks/src/errors.js';
import {
  assertSecret,
  generateSecret,
  GoogleCodeScheme,
  StandardScheme,
} from '../../libs/webhooks/src/signing/index.js';

/** The vector of the Standard Webhooks specification and its reference libraries. */
const VECTOR = {
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  timestamp: 1614265330,
  body: Buffer.from('{"test": 2432232314}'),
  secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
};

const OLD = generateSecret();
const NEW = generateSecret();
/** Characters of four bytes in UTF-8, which a length in UTF-16 units gets wrong. */
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

  it('takes a secret without its prefix, as the reference libraries do', () => {
    expect(scheme.sign({ id, timestamp, body, secrets: [secret.slice('whsec_'.length)] })['webhook-signature']).toBe(
      signature,
    );
  });

  it('makes what the standardwebhooks package accepts, over four-byte characters', () => {
    const now = Math.floor(Date.now() / 1000);
    const headers = scheme.sign({ id, timestamp: now, body: FOUR_BYTES, secrets: [NEW] });
    const sent = { ...headers, 'webhook-id': id, 'webhook-timestamp': String(now) };
    expect(new Webhook(NEW).verify(FOUR_BYTES, sent)).toEqual(JSON.parse(FOUR_BYTES.toString()));
  });

  it('accepts what the standardwebhooks package made', () => {
    const at = new Date(timestamp * 1000);
    const headers = { 'webhook-signature': new Webhook(NEW).sign(id, at, FOUR_BYTES) };
    expect(scheme.verify({ id, timestamp, body: FOUR_BYTES, secrets: [NEW], headers })).toBe(true);
  });

  it('signs with every secret while a rotation overlaps, newest first, so that both receivers accept', () => {
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

  it('finds its signature among others, and its secret among others', () => {
    const headers = { 'webhook-signature': `v1a,xyz v1,AAAA ${signature} v2,${signature.slice(3)}` };
    expect(scheme.verify({ id, timestamp, body, secrets: [OLD, secret], headers })).toBe(true);
  });

  it('names a stored secret that is none without repeating it', () => {
    const sign = () => scheme.sign({ id, timestamp, body, secrets: ['whsec_not*base64'] });
    expect(sign).toThrow(ConfigurationError);
    expect(sign).not.toThrow(/not\*base64/);
    expect(codeOf(sign)).toBe('INVALID_SECRET');
  });

  it('does not show the secrets it has seen to a debugger', () => {
    scheme.sign({ id, timestamp, body, secrets: [NEW] });
    expect(inspect(scheme, { depth: 10, showHidden: true })).not.toContain(NEW.slice(6));
    expect(JSON.stringify(scheme)).not.toContain(NEW.slice(6));
  });
});

describe('the google-code scheme', () => {
  const scheme = new GoogleCodeScheme();
  const input = { id: 'evt_1', timestamp: 1, body: Buffer.from('what do ya want for nothing?') };
  /** RFC 2202, HMAC-MD5, test case 2. */
  const RFC_2202 = '750c783e6ab0b503eaa86e310a5db738';

  it('is the hex HMAC-MD5 of the body with the secret as it is written', () => {
    expect(scheme.sign({ ...input, secrets: ['Jefe'] })).toEqual({ 'Google-Code-Project-Hosting-Hook-Hmac': RFC_2202 });
  });

  it('signs with the newest secret, and accepts any', () => {
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
  ])('is refused when %s, and not repeated', (_name, secret) => {
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
