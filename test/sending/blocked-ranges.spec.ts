import { BlockList, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  createWebhooksHttpService,
  HttpTransport,
  resolveSecurityOptions,
  type SecurityOptions,
} from '../../libs/webhooks/src/sending/index.js';
import { FakeDns } from '../../libs/webhooks/src/testing/index.js';
import { ConnectionAttempts } from '../support/connection-attempts.js';

/** Copied from the IANA registries of special-purpose addresses, not from the source of the guard. */
const BLOCKED: readonly (readonly [address: string, bits: number])[] = [
  ...([
    ['0.0.0.0', 8],
    ['10.0.0.0', 8],
    ['100.64.0.0', 10],
    ['127.0.0.0', 8],
    ['169.254.0.0', 16],
    ['172.16.0.0', 12],
    ['192.0.0.0', 24],
    ['192.0.2.0', 24],
    ['192.88.99.0', 24],
    ['192.168.0.0', 16],
    ['198.18.0.0', 15],
    ['198.51.100.0', 24],
    ['203.0.113.0', 24],
    ['224.0.0.0', 4],
    ['240.0.0.0', 4],
    ['168.63.129.16', 32],
  ] as const),
  ...([
    ['::', 96],
    ['::ffff:0:0', 96],
    ['::ffff:0:0:0', 96],
    ['64:ff9b::', 96],
    ['64:ff9b:1::', 48],
    ['100::', 64],
    ['2001::', 23],
    ['2001:db8::', 32],
    ['2002::', 16],
    ['3fff::', 20],
    ['4000::', 2],
    ['5f00::', 16],
    ['8000::', 1],
    ['fc00::', 7],
    ['fe80::', 10],
    ['fec0::', 10],
    ['ff00::', 8],
  ] as const),
];

/** The BlockList of Node.js, so that the guard is not checked against itself. */
const oracle = new BlockList();
for (const [address, bits] of BLOCKED) oracle.addSubnet(address, bits, isIPv6(address) ? 'ipv6' : 'ipv4');

const METADATA = ['169.254.169.254', '169.254.170.2', '100.100.100.200', '168.63.129.16', '192.0.0.192'];

const v4Number = (text: string): number => text.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
const v4Text = (value: number): string => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
const hextets = (value: bigint): string =>
  Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16)).join(':');

function v6Number(text: string): bigint {
  const [head = '', tail = ''] = text.split('::');
  const parts = (side: string): bigint[] => (side === '' ? [] : side.split(':').map((part) => BigInt(`0x${part}`)));
  const [left, right] = [parts(head), parts(tail)];
  const all = [...left, ...Array<bigint>(8 - left.length - right.length).fill(0n), ...right];
  return all.reduce((sum, part) => (sum << 16n) | part, 0n);
}

/** A random address of a random blocked range. Every range has the same probability. */
const blockedAddress = fc
  .constantFrom(...BLOCKED)
  .chain(([base, bits]) =>
    isIPv6(base)
      ? fc.bigInt({ min: 0n, max: (1n << BigInt(128 - bits)) - 1n }).map((rest) => hextets(v6Number(base) + rest))
      : fc.integer({ min: 0, max: 2 ** (32 - bits) - 1 }).map((rest) => v4Text(v4Number(base) + rest)),
  );

/** The same address in the forms that URLs allow. */
function spelt(address: string): fc.Arbitrary<string> {
  if (isIPv6(address)) return fc.constant(`[${address}]`);
  const [a, b, c, d] = address.split('.').map(Number) as [number, number, number, number];
  const radix = (value: number): fc.Arbitrary<string> =>
    fc.constantFrom(String(value), `0x${value.toString(16)}`, `0${value.toString(8)}`);
  const join = (...parts: number[]): fc.Arbitrary<string> =>
    fc.tuple(...parts.map(radix)).map((texts) => texts.join('.'));
  const plain = fc.oneof(
    join(a, b, c, d),
    join(a, b, c * 256 + d),
    join(a, b * 65_536 + c * 256 + d),
    join(v4Number(address)),
  );
  return plain.chain((text) =>
    fc.constantFrom(text, `${text}.`, text.replaceAll('.', '。'), `%3${text[0]}${text.slice(1)}`),
  );
}

const PUBLIC = fc.constantFrom<string[]>('93.184.215.14', '1.1.1.1', '2606:4700:4700::1111');

describe('no connection is ever made to an address of a blocked range', () => {
  let attempts: ConnectionAttempts;
  const closing: HttpTransport[] = [];
  const dns = new FakeDns();

  beforeAll(() => {
    attempts = new ConnectionAttempts();
  });
  // A repeated test does not see the connections of its first run.
  beforeEach(() => {
    attempts.all.length = 0;
  });
  afterAll(async () => {
    attempts.stop();
    for (const transport of closing) await transport.close();
  });

  function transport(security: SecurityOptions = {}): HttpTransport {
    const http = createWebhooksHttpService({
      security: resolveSecurityOptions({ allowHttp: true, ...security }),
      lookup: dns.lookup,
    });
    closing.push(new HttpTransport(http));
    return closing.at(-1) as HttpTransport;
  }

  async function expectBlocked(sender: HttpTransport, url: string): Promise<void> {
    const outcome = await sender.send({ url, headers: {}, body: Buffer.from('{}'), timeoutMs: 5_000 });
    expect([url, outcome.kind, outcome.response, attempts.all]).toEqual([url, 'blocked', null, []]);
  }

  it('given as a literal in any form', async () => {
    const sender = transport();
    const url = fc
      .tuple(fc.constantFrom('http', 'https'), blockedAddress.chain(spelt), fc.constantFrom('', ':8080'))
      .map(([scheme, host, port]) => `${scheme}://${host}${port}/`);
    await fc.assert(
      fc.asyncProperty(url, async (given) => expectBlocked(sender, given)),
      { numRuns: 1_000 },
    );
  });

  it('given by a name, alone or at any position among public addresses', async () => {
    const sender = transport();
    let names = 0;
    const answer = fc
      .tuple(blockedAddress, fc.array(PUBLIC, { maxLength: 3 }), fc.nat(3))
      .map(([bad, good, place]) => good.toSpliced(Math.min(place, good.length), 0, bad));
    await fc.assert(
      fc.asyncProperty(answer, async (addresses) => {
        const name = `n${names++}.example`;
        dns.set(name, addresses);
        await expectBlocked(sender, `http://${name}/`);
      }),
      { numRuns: 500 },
    );
  });

  it('given by a name that pointed to a public address before', async () => {
    const sender = transport();
    let names = 0;
    await fc.assert(
      fc.asyncProperty(blockedAddress, blockedAddress, async (first, second) => {
        const name = `r${names++}.example`;
        for (const address of [first, second]) {
          dns.set(name, address);
          await expectBlocked(sender, `https://${name}/`);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('that is a metadata address inside a wide allowed range, also in IPv6 form', async () => {
    const sender = transport({ allowedAddresses: ['0.0.0.0/0', '::/0'] });
    const address = fc.oneof(
      fc.constantFrom(...METADATA, '[fd00:ec2::254]', '[fd20:ce::254]'),
      fc
        .tuple(fc.constantFrom(...METADATA), fc.constantFrom('::', '::ffff:', '::ffff:0:', '64:ff9b::', '2606:4700::'))
        .map(([v4, prefix]) => `[${prefix}${v4}]`),
    );
    await fc.assert(fc.asyncProperty(address, async (host) => expectBlocked(sender, `http://${host}/`)));
  });

  it('and the test would notice one: every generated address is blocked, and a connection is recorded', async () => {
    fc.assert(
      fc.property(blockedAddress, (address) => oracle.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')),
      { numRuns: 1_000 },
    );
    const sender = transport({ allowedAddresses: ['127.0.0.0/8'] });
    await sender.send({ url: 'http://127.0.0.1:1/', headers: {}, body: Buffer.from('{}'), timeoutMs: 5_000 });
    // Other parts of the process may connect meanwhile: a pool that an earlier suite left behind, for example.
    expect(attempts.all).toContainEqual({ address: '127.0.0.1', port: 1 });
  });
});
