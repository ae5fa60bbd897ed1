// Part of a URL. cspell:ignore mple
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { BadRequestError } from '../../libs/webhooks/src/errors.js';
import {
  AddressGuard,
  assertListenerHeaders,
  assertListenerUrl,
  retryAfterMs,
  USER_AGENT,
} from '../../libs/webhooks/src/sending/index.js';

const STRICT = new AddressGuard();

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(BadRequestError);
    return (error as BadRequestError).code;
  }
  return 'accepted';
}

describe('the URL of a listener', () => {
  const check = (url: unknown, guard = STRICT, allowHttp = false) =>
    assertListenerUrl(url as string, guard, { allowHttp, allowedPorts: 'any' }).href;

  it.each([
    ['https://example.com', 'https://example.com/'],
    ['HTTPS://Example.COM:443/Hooks?a=1&b=%20', 'https://example.com/Hooks?a=1&b=%20'],
    ['https://example.com:8443/a/../b', 'https://example.com:8443/b'],
    ['https://example.com/hooks#section', 'https://example.com/hooks'],
    ['https://bücher.example/ä', 'https://xn--bcher-kva.example/%C3%A4'],
    ['https://example.com/a@b?c=@d', 'https://example.com/a@b?c=@d'],
    ['https://1.1.1.1/', 'https://1.1.1.1/'],
    ['https://[2606:4700:4700::1111]/', 'https://[2606:4700:4700::1111]/'],
    ['https://localhost.example.com/', 'https://localhost.example.com/'],
  ])('%s is stored as %s', (given, stored) => {
    expect(check(given)).toBe(stored);
  });

  it('may have an umlaut, also after so many calls that V8 has optimized the check', () => {
    for (let call = 0; call < 50_000; call++) check('https://example.com/');
    expect(check('https://bücher.example/')).toBe('https://xn--bcher-kva.example/');
  });

  it.each<[string, unknown[]]>([
    [
      'INVALID_URL',
      [
        undefined,
        null,
        7,
        '',
        'example.com',
        '/hooks',
        '//example.com',
        'https://',
        'https:example.com',
        'https:/example.com',
        'https:///example.com',
        'https://exa mple.com',
        ' https://example.com',
        'https://example.com/\n',
        'https://exa\tmple.com',
        'https:\\\\example.com',
        'https://example.com\\@evil.example',
        'https://example.com:0/',
        'https://example.com:99999/',
        'https://[::1',
        'https://256.256.256.256/',
        'https://exa%00mple.com',
        'https://example.com/\u00a0',
        `https://example.com/${'a'.repeat(2048)}`,
        `https://example.com/#${'a'.repeat(2048)}`,
        `https://example.com/${'ä'.repeat(1000)}`,
      ],
    ],
    [
      'URL_SCHEME',
      [
        'http://example.com/',
        'ftp://example.com/',
        'file:///etc/passwd',
        'javascript:alert(1)',
        'data:,x',
        'ws://a.example/',
        'gopher://a.example/',
      ],
    ],
    [
      'URL_CREDENTIALS',
      [
        'https://user:pass@example.com/',
        'https://user@example.com/',
        'https://:pass@example.com/',
        'https://@example.com/',
        'https://example.com@evil.example/',
        'https://u%40x:p@example.com/',
      ],
    ],
    [
      'URL_ADDRESS_BLOCKED',
      [
        'https://127.0.0.1/',
        'https://127.1/',
        'https://2130706433/',
        'https://0x7f000001/',
        'https://017700000001/',
        'https://0x7f.1/',
        'https://127.0.0.1./',
        'https://%31%32%37.0.0.1/',
        'https://１２７.0.0.1/',
        'https://127。0。0。1/',
        'https://0/',
        'https://10.0.0.1/',
        'https://192.168.0.1/',
        'https://169.254.169.254/latest/meta-data/',
        'https://168.63.129.16/',
        'https://[::1]/',
        'https://[::]/',
        'https://[::ffff:127.0.0.1]/',
        'https://[::ffff:7f00:1]/',
        'https://[::127.0.0.1]/',
        'https://[64:ff9b::7f00:1]/',
        'https://[fe80::1]/',
        'https://[fd00:ec2::254]/',
        'https://localhost/',
        'https://LOCALHOST/',
        'https://localhost./',
        'https://a.localhost/',
        'https://ⓛocalhost/',
        'https://localhost.localdomain/',
        'https://ip6-localhost/',
      ],
    ],
  ])('is %s', (code, urls) => {
    for (const url of urls) expect([url, codeOf(() => check(url))]).toEqual([url, code]);
  });

  it('may be http, loopback and localhost if the application allows them', () => {
    const loopback = new AddressGuard(['127.0.0.0/8', '::1/128']);
    expect(check('http://example.com/', STRICT, true)).toBe('http://example.com/');
    for (const url of ['http://127.0.0.1:3000/hooks', 'http://localhost:3000/hooks', 'http://[::1]/']) {
      expect(check(url, loopback, true)).toBe(url);
    }
    expect(codeOf(() => check('http://10.0.0.1/', loopback, true))).toBe('URL_ADDRESS_BLOCKED');
  });

  it('must have a port that the application allows; without a port, the default of its scheme counts', () => {
    const guarded = (url: string) =>
      assertListenerUrl(url, STRICT, { allowHttp: true, allowedPorts: [443, 8443] }).href;
    for (const url of ['https://example.com/', 'https://example.com:8443/', 'http://example.com:443/']) {
      expect(guarded(url)).toBe(url);
    }
    for (const url of ['https://example.com:22/', 'http://example.com/', 'https://example.com:80/']) {
      expect([url, codeOf(() => guarded(url))]).toEqual([url, 'URL_PORT_BLOCKED']);
    }
  });

  it('is never repeated in an error', () => {
    try {
      check('https://user:hunter2@example.com/');
    } catch (error) {
      expect(inspect(error)).not.toContain('hunter2');
    }
  });

  it('gives a URL or a documented error for any input', () => {
    const codes = ['accepted', 'INVALID_URL', 'URL_SCHEME', 'URL_CREDENTIALS', 'URL_ADDRESS_BLOCKED'];
    const url = fc.oneof(
      fc.string(),
      fc.webUrl(),
      fc.string().map((rest) => `https://${rest}`),
    );
    fc.assert(
      fc.property(url, (given) => {
        expect(codes).toContain(codeOf(() => check(given)));
      }),
    );
  });
});

describe('the headers of a listener', () => {
  it('are returned with names in lower case', () => {
    expect(assertListenerHeaders({ Authorization: 'Bearer a b', 'X-A': '' })).toEqual({
      authorization: 'Bearer a b',
      'x-a': '',
    });
    expect(assertListenerHeaders(undefined)).toEqual({});
    expect(assertListenerHeaders(null)).toEqual({});
  });

  it.each<[string, unknown]>([
    ['reserved', { Host: 'a' }],
    ['reserved for the length', { 'Content-Length': '1' }],
    ['reserved for the content type', { 'content-type': 'a/b' }],
    ['reserved for framing', { 'Transfer-Encoding': 'chunked' }],
    ['reserved for the connection', { Connection: 'close' }],
    ['reserved for upgrades', { upgrade: 'h2c' }],
    ['reserved for expectations', { Expect: '100-continue' }],
    ['reserved for proxies', { 'Proxy-Authorization': 'a' }],
    ['reserved for signatures', { 'WebHook-Signature': 'v1,a' }],
    ['reserved for another signature', { 'Google-Code-Project-Hosting-Hook-Hmac': 'a' }],
    ['empty', { '': 'a' }],
    ['no token', { 'a b': 'a' }],
    ['with a colon', { 'a:': 'a' }],
    ['not ASCII', { ä: 'a' }],
    ['too long', { ['a'.repeat(129)]: 'a' }],
    ['twice', { 'X-A': '1', 'x-a': '2' }],
    ['a prototype', JSON.parse('{"__proto__":"a"}')],
    ['with a line end in its value', { a: 'b\r\nx: y' }],
    ['with NUL in its value', { a: 'b\0' }],
    ['with a space before its value', { a: ' b' }],
    ['with a tab in its value', { a: 'b\tc' }],
    ['with a value that is not ASCII', { a: 'ä' }],
    ['with a value that is no text', { a: 1 }],
    ['with a list', { a: ['b'] }],
    ['with a value that is too long', { a: 'b'.repeat(4097) }],
    ['too much together', { a: 'b'.repeat(4000), c: 'd'.repeat(4000) }],
    ['too many', Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`x-${i}`, '']))],
    ['a list', [['a', 'b']]],
    ['text', 'a: b'],
  ])('are refused when %s', (_name, headers) => {
    expect(codeOf(() => assertListenerHeaders(headers as Record<string, string>))).toBe('INVALID_HEADER');
  });

  it('are never repeated in an error when they could be credentials', () => {
    for (const headers of [{ authorization: 'Bearer hunter2\n' }, { 'Authorization: hunter2': 'x' }]) {
      try {
        assertListenerHeaders(headers as unknown as Record<string, string>);
        expect.unreachable();
      } catch (error) {
        expect(inspect(error)).not.toContain('hunter2');
      }
    }
  });

  it('that are accepted can be sent', async () => {
    const seen: string[] = [];
    const server = createServer((request, response) => {
      seen.push(request.headers['x-a'] as string);
      response.end();
    }).listen(0);
    const { port } = server.address() as AddressInfo;
    const printable = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 33 + i));
    const headers = assertListenerHeaders({ 'x-a': `${printable} ${printable}` });
    await fetch(`http://127.0.0.1:${port}/`, { headers });
    server.close();
    expect(seen).toEqual([`${printable} ${printable}`]);
  });
});

describe('Retry-After', () => {
  const NOW = Date.parse('1994-11-06T08:49:00Z');
  const CAP = 3_600_000;

  it.each([
    ['0', 0],
    ['37', 37_000],
    [' 37 ', 37_000],
    ['999999999999999999999', CAP],
    ['Sun, 06 Nov 1994 08:49:37 GMT', 37_000],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 37_000],
    ['Sun Nov  6 08:49:37 1994', 37_000],
    ['Sun, 06 Nov 1994 08:48:00 GMT', 0],
    ['Sun, 06 Nov 2094 08:49:37 GMT', CAP],
    [undefined, null],
    ['', null],
    ['-1', null],
    ['1.5', null],
    ['1e3', null],
    ['soon', null],
    ['1994', 1_994_000],
    ['1994-11-06T08:49:37Z', null],
    ['Sun, 66 Nov 1994 08:49:37 GMT', null],
    ['5, 10', null],
  ])('%j asks for %j', (header, expected) => {
    expect(retryAfterMs(header, NOW, CAP)).toBe(expected);
  });
});

describe('the user agent', () => {
  it('names the version of the package', () => {
    const { version } = JSON.parse(readFileSync('libs/webhooks/package.json', 'utf8')) as { version: string };
    expect(USER_AGENT).toBe(`nestjs-entity-webhooks/${version}`);
  });
});
