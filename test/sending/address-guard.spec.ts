import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { ConfigurationError } from '../../libs/webhooks/src/errors.js';
import { AddressGuard, resolveSecurityOptions } from '../../libs/webhooks/src/sending/index.js';

describe('by default', () => {
  const guard = new AddressGuard();

  it.each(['93.184.215.14', '1.1.1.1', '8.8.8.8', '2606:4700:4700::1111', '2a00:1450:4001:81b::200e'])(
    '%s may be reached',
    (address) => expect(guard.isAllowed(address)).toBe(true),
  );

  it.each([
    ['loopback', '127.0.0.1 127.255.255.255 ::1'],
    ['this network', '0.0.0.0 0.1.2.3 ::'],
    ['private', '10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12:3456::1'],
    ['link-local', '169.254.0.1 fe80::1 fe80::1%eth0 febf::1'],
    ['site-local', 'fec0::1'],
    ['cloud metadata', '169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254'],
    ['carrier-grade NAT', '100.64.0.1 100.127.255.255'],
    ['multicast and broadcast', '224.0.0.1 239.255.255.255 255.255.255.255 ff02::1'],
    ['reserved', '192.0.0.1 240.0.0.1 192.88.99.1 4000::1 100::1'],
    ['benchmarking', '198.18.0.1 198.19.255.255 2001:2::1'],
    ['documentation', '192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1'],
    ['IPv4-mapped', '::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:a9fe:a9fe'],
    ['IPv4-compatible', '::127.0.0.1 ::8.8.8.8'],
    ['IPv4-translated', '::ffff:0:127.0.0.1'],
    ['NAT64', '64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b:1::1'],
    ['6to4', '2002:7f00:1::1 2002:808:808::1'],
    ['Teredo', '2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2'],
    ['ISATAP', '2606:4700::5efe:7f00:1 2606:4700::200:5efe:8.8.8.8'],
    ['ORCHID', '2001:10::1 2001:20::1'],
    ['no address', 'localhost 127.1 2130706433 0x7f000001 [::1] 1.1.1.1/32 1.1.1.1:80'],
  ])('%s may not', (_name, addresses) => {
    for (const address of [...addresses.split(' '), ''])
      expect([address, guard.isAllowed(address)]).toEqual([address, false]);
  });

  it('an IPv6 address that embeds an IPv4 address of a blocked range is blocked', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const v4 = fc.tuple(octet, octet, octet, octet);
    fc.assert(
      fc.property(v4, fc.constantFrom('::', '::ffff:', '::ffff:0:', '64:ff9b::'), (octets, prefix) => {
        expect(guard.isAllowed(prefix + octets.join('.'))).toBe(false);
      }),
    );
    fc.assert(
      fc.property(fc.constantFrom('10', '127', '0', '192.168', '172.20', '169.254', '100.64'), v4, (prefix, octets) => {
        const head = prefix.split('.');
        expect(guard.isAllowed([...head, ...octets].slice(0, 4).join('.'))).toBe(false);
      }),
    );
  });
});

describe('with allowedAddresses', () => {
  it('a range allows its own addresses and no others', () => {
    const guard = new AddressGuard(['10.1.0.0/16', '::1/128']);
    expect(guard.isAllowed('10.1.255.255')).toBe(true);
    expect(guard.isAllowed('10.2.0.0')).toBe(false);
    expect(guard.isAllowed('::1')).toBe(true);
    expect(guard.isAllowed('0:0:0:0:0:0:0:1')).toBe(true);
    expect(guard.isAllowed('127.0.0.1')).toBe(false);
    expect(guard.isAllowed('1.1.1.1')).toBe(true);
  });

  it('an IPv4 range does not allow IPv6 forms of its addresses, which need their own entry', () => {
    expect(new AddressGuard(['127.0.0.0/8']).isAllowed('::ffff:127.0.0.1')).toBe(false);
    expect(new AddressGuard(['::ffff:127.0.0.0/104']).isAllowed('::ffff:127.0.0.1')).toBe(true);
  });

  it('a cloud metadata address stays blocked in a wide range, and is allowed by an entry for this address alone', () => {
    const wide = new AddressGuard(['169.254.0.0/16', '0.0.0.0/0', '::/0']);
    expect(wide.isAllowed('169.254.1.1')).toBe(true);
    expect(wide.isAllowed('169.254.169.254')).toBe(false);
    expect(wide.isAllowed('fd00:ec2::254')).toBe(false);
    expect(new AddressGuard(['169.254.169.254/32']).isAllowed('169.254.169.254')).toBe(true);
    expect(new AddressGuard(['fd00:0ec2::254/128']).isAllowed('fd00:ec2::254')).toBe(true);
  });

  it.each([
    ...['169.254.169.254', '169.254.170.2', '169.254.170.23', '169.254.169.250', '169.254.169.252', '169.254.0.23'],
    ...['169.254.42.42', '100.100.100.200', '100.96.0.96', '168.63.129.16', '192.0.0.192', 'fd00:ec2::254'],
    ...['fd00:ec2::23', 'fd20:ce::254', 'fd00:42::42', 'fd00:c1::a9fe:a9fe', 'fd00:a9fe:a9fe::1', 'fe80::a9fe:a9fe'],
    ...['fd00:100::100:200', '169.254.16.9'],
    'fe80::a9fe:a9fe%eth0',
  ])('no range allows %s, where a cloud serves credentials', (address) => {
    expect(new AddressGuard(['0.0.0.0/0', '::/0']).isAllowed(address)).toBe(false);
  });

  it.each([
    ['mapped', '::ffff:169.254.169.254'],
    ['compatible', '::169.254.169.254'],
    ['translated', '::ffff:0:169.254.169.254'],
    ['NAT64', '64:ff9b::169.254.169.254'],
    ['NAT64 for local use', '64:ff9b:1:a9fe:a9:fe00::'],
    ['NAT64 of the network, 96 bits', '2606:4700:64::169.254.169.254'],
    ['NAT64 of the network, 64 bits', '2606:4700:64:1:a9:fea9:fe00::'],
    ['NAT64 of the network, 56 bits', '2606:4700:64:a9:fe:a9fe::'],
    ['NAT64 of the network, 48 bits', '2606:4700:64:a9fe:a9:fe00::'],
    ['NAT64 of the network, 40 bits', '2606:4700:a9:fea9:fe::'],
    ['NAT64 of the network, 32 bits', '2606:4700:a9fe:a9fe::'],
    ['6to4', '2002:a9fe:a9fe::1'],
    ['Teredo', '2001:0:4136:e378:8000:63bf:5601:5601'],
    ['ISATAP', '2606:4700::5efe:a9fe:a9fe'],
    ['link-local, as OpenStack has it', 'fe80::a9fe:a9fe%eth0'],
    ["mapped, of Azure's public address", '::ffff:168.63.129.16'],
  ])('cloud metadata stays blocked inside IPv6: %s', (_form, address) => {
    expect(new AddressGuard(['::/0']).isAllowed(address)).toBe(false);
    const [named = ''] = address.split('%');
    expect(new AddressGuard([`${named}/128`]).isAllowed(address)).toBe(true);
  });

  it.each(['127.0.0.1', '::1'])(
    '%s without a prefix length is refused, and the message says how to write it',
    (entry) => {
      expect(() => new AddressGuard([entry])).toThrow(new RegExp(`Write "${entry.replaceAll('.', '\\.')}/(32|128)"`));
    },
  );

  it.each([
    '',
    'localhost',
    '127.1/8',
    '10.0.0.0/33',
    '::1/129',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/',
    'fe80::1%eth0/64',
    5,
    null,
  ])('%j is refused with a message that names option, value and fix', (entry) => {
    expect(() => new AddressGuard([entry as string])).toThrow(ConfigurationError);
    expect(() => resolveSecurityOptions({ allowedAddresses: [entry as string] })).toThrow(
      `Invalid value ${typeof entry === 'string' ? `'${entry}'` : entry} for \`security.allowedAddresses\``,
    );
  });
});

describe('security options', () => {
  it('allow only public addresses and https: by default, and are frozen', () => {
    const resolved = resolveSecurityOptions();
    expect(resolved).toEqual({ allowedAddresses: [], allowHttp: false, allowedPorts: 'any', proxy: null });
    expect(resolveSecurityOptions({ allowedAddresses: undefined, allowHttp: undefined })).toEqual(resolved);
    expect(Object.isFrozen(resolved) && Object.isFrozen(resolved.allowedAddresses)).toBe(true);
  });

  it.each([
    { allowHttp: 'yes' },
    { allowedAddresses: '127.0.0.0/8' },
    { allowedPorts: [] },
    { allowedPorts: [0] },
    { allowedPorts: [443, 65_536] },
    { allowedPorts: ['443'] },
    { allowedPorts: 443 },
    { allowedPorts: 'all' },
    { proxy: {} },
    { proxy: { url: 'socks5://proxy:1080' } },
    { proxy: { url: 'proxy:3128' } },
    { proxy: { url: 'http://proxy:3128/path' } },
    { proxy: { url: 'http://%zz@proxy:3128' } },
    { proxy: { url: 'http://proxy:3128', resolvesNames: 'yes' } },
  ])('refuse %j', (options) => {
    expect(() => resolveSecurityOptions(options as never)).toThrow(ConfigurationError);
  });

  it('never repeat the URL of a proxy, which may contain a password', () => {
    expect(() => resolveSecurityOptions({ proxy: { url: 'ftp://user:hunter2@proxy' } })).toThrow(
      expect.not.stringContaining('hunter2') as string,
    );
  });
});
