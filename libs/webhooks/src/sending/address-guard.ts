import { isIP } from 'node:net';

import ipaddr from 'ipaddr.js';

import type { ConfigurationError } from '../errors.js';
import { invalidOption } from '../option-table.js';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** The IPv6 range that IANA assigns for global unicast. Every address outside this range is special or unassigned. */
const IPV6_GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Addresses of metadata services of clouds. These services answer with credentials, or with the data with which an instance was started.
 * Most of these addresses are in ranges that are always blocked, but the address of Azure (168.63.129.16) is public. A range in
 * `allowedAddresses` does not allow these addresses.
 *
 * The list needs no names such as `metadata.google.internal` and `metadata.packet.net`, because addresses are checked after names are
 * resolved. The list also does not contain time and DNS servers of clouds, and agents on loopback (Azure App Service, Azure Arc).
 */
const METADATA_ADDRESSES = new Set(
  [
    /*
     * Shared by many clouds:
     * AWS EC2       https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
     * Azure         https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
     * Google        https://cloud.google.com/compute/docs/metadata/querying-metadata
     * Oracle        https://docs.oracle.com/iaas/Content/Compute/Tasks/gettingmetadata.htm
     * DigitalOcean  https://docs.digitalocean.com/reference/api/metadata/
     * Hetzner       https://docs.hetzner.cloud/#server-metadata
     * IBM           https://cloud.ibm.com/apidocs/vpc-identity
     * OpenStack     https://docs.openstack.org/nova/latest/user/metadata.html
     * Akamai        https://docs.cloud-init.io/en/latest/reference/datasources/akamai.html
     * Vultr         https://www.vultr.com/metadata/
     * Exoscale      https://community.exoscale.com/documentation/compute/private-instances/
     * Outscale      https://docs.outscale.com/en/userguide/Accessing-the-Metadata-and-User-Data-of-an-Instance.html
     * UpCloud       https://docs.cloud-init.io/en/latest/reference/datasources/upcloud.html
     * Naver         https://api.ncloud-docs.com/docs/en/compute-vmetadata
     */
    '169.254.169.254',
    // AWS ECS, credentials of a task: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
    '169.254.170.2',
    // AWS EKS, the Pod Identity Agent: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
    '169.254.170.23',
    'fd00:ec2::23',
    // AWS EC2: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-existing-instances.html
    'fd00:ec2::254',
    // Azure, the wire server: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    '168.63.129.16',
    // Google, instances with IPv6 only: https://cloud.google.com/compute/docs/metadata/querying-metadata
    'fd20:ce::254',
    // Google GKE, where the node answers: https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity
    '169.254.169.252',
    // Oracle: METADATA_URL_BASE with IPv6 in https://github.com/oracle/oci-python-sdk (instance_principals_security_token_signer.py)
    'fd00:c1::a9fe:a9fe',
    // Oracle Compute Classic: https://docs.oracle.com/en/cloud/iaas/compute-iaas-cloud/stcsg/retrieving-instance-metadata.html
    '192.0.0.192',
    // Alibaba: https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
    '100.100.100.200',
    // Alibaba, by IPv6: DataSourceAliYun in https://github.com/canonical/cloud-init
    'fd00:100::100:200',
    // Tencent, metadata.tencentyun.com: https://intl.cloud.tencent.com/document/product/213/4934
    '169.254.0.23',
    // Volcengine and BytePlus: credentialServerAddress in https://github.com/volcengine/cello
    '100.96.0.96',
    // Scaleway: https://docs.cloud-init.io/en/latest/reference/datasources/scaleway.html
    '169.254.42.42',
    'fd00:42::42',
    // Akamai (Linode): https://docs.cloud-init.io/en/latest/reference/datasources/akamai.html
    'fd00:a9fe:a9fe::1',
    // OpenStack, and Hetzner: https://specs.openstack.org/openstack/neutron-specs/specs/ussuri/metadata-add-ipv6-support.html
    'fe80::a9fe:a9fe',
    // OpenNebula, OneGate and its API: https://docs.opennebula.io/6.10/management_and_operations/network_management/tproxy.html
    '169.254.16.9',
    // Rancher 1: the metadata URL of its services in https://github.com/rancher
    '169.254.169.250',
  ].map((address) => ipaddr.parse(address).toNormalizedString()),
);

/**
 * Byte positions of the IPv4 address inside IPv6 addresses with an embedded IPv4 address. The first row is the
 * last four bytes (mapped, compatible, translated, ISATAP, NAT64 with a prefix of 96 bits). The next rows are
 * for shorter NAT64 prefixes: a network may choose its own prefix (RFC 6052 section 2.2). The last row is for
 * 6to4.
 */
const EMBEDDED_IPV4_BYTES = [
  [12, 13, 14, 15],
  [9, 10, 11, 12],
  [7, 9, 10, 11],
  [6, 7, 9, 10],
  [5, 6, 7, 9],
  [4, 5, 6, 7],
  [2, 3, 4, 5],
] as const;

/**
 * Decides to which addresses a connection is allowed. Allowed are public unicast addresses, and addresses that the
 * application names.
 *
 * IPv6 forms that embed an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP) are blocked, because a router
 * decides to which address such a packet is sent. So an IPv4 range does not allow the mapped form. To allow the mapped form, name a range
 * of that form: `::ffff:127.0.0.0/104`.
 */
export class AddressGuard {
  readonly #allowed: readonly [Address, number][];
  readonly #named: ReadonlySet<string>;

  /** @throws {@link ConfigurationError} `INVALID_OPTION` when an entry is not a CIDR range */
  constructor(allowedAddresses: readonly string[] = []) {
    this.#allowed = allowedAddresses.map(parseRange);
    this.#named = new Set(
      this.#allowed
        .filter(([address, bits]) => bits === address.toByteArray().length * 8)
        .map(([address]) => address.toNormalizedString()),
    );
  }

  /**
   * Whether a connection to `address` is allowed. `address` is the text that a resolver or a socket returns.
   * Returns `false` for text that is not an IP address.
   */
  isAllowed(address: string): boolean {
    // Node.js accepts some zones that the parser rejects.
    if (isIP(address) === 0 || !ipaddr.isValid(address)) return false;
    const parsed = ipaddr.parse(address);
    if (parsed instanceof ipaddr.IPv6) parsed.zoneId = undefined;
    const normalized = parsed.toNormalizedString();
    if (this.#named.has(normalized)) return true;
    if (isMetadata(parsed)) return false;
    return (
      isPublic(parsed) ||
      this.#allowed.some(([base, bits]) => base.kind() === parsed.kind() && parsed.match(base, bits))
    );
  }
}

/**
 * Whether the address is a metadata address, or an IPv6 address with an embedded metadata address. A router may
 * translate such an IPv6 address. A range such as `::/0` allows neither.
 */
function isMetadata(address: Address): boolean {
  if (METADATA_ADDRESSES.has(address.toNormalizedString())) return true;
  if (address instanceof ipaddr.IPv4) return false;
  const bytes = address.toByteArray();
  const embedded = EMBEDDED_IPV4_BYTES.map((places) => places.map((place) => bytes[place] ?? 0));
  // Teredo stores the IPv4 address of its client with all bits inverted.
  embedded.push(bytes.slice(12).map((byte) => byte ^ 0xff));
  return embedded.some((octets) => METADATA_ADDRESSES.has(octets.join('.')));
}

function isPublic(address: Address): boolean {
  if (address.range() !== 'unicast') return false;
  return address instanceof ipaddr.IPv4 || (address.match(IPV6_GLOBAL_UNICAST) && !isIsatap(address));
}

/** Whether the interface identifier is `[0200:]5efe:a.b.c.d`, under any prefix (RFC 5214 section 6.1). */
function isIsatap(address: ipaddr.IPv6): boolean {
  return address.parts[5] === 0x5efe && ((address.parts[4] ?? 0) & 0xfdff) === 0;
}

function parseRange(entry: unknown): [Address, number] {
  const [address, bits, ...rest] = typeof entry === 'string' ? entry.split('/') : [];
  if (address !== undefined && isIP(address) !== 0 && !address.includes('%')) {
    if (bits !== undefined && /^\d{1,3}$/.test(bits) && rest.length === 0) {
      const parsed = ipaddr.parse(address);
      if (Number(bits) <= parsed.toByteArray().length * 8) return [parsed, Number(bits)];
    }
    throw invalidRange(entry, `Write "${address}/${address.includes(':') ? 128 : 32}" for a single address.`);
  }
  throw invalidRange(entry, 'Write an address and a prefix length, such as "10.0.0.0/8" or "::1/128".');
}

function invalidRange(entry: unknown, fix: string): ConfigurationError {
  return invalidOption(
    { module: { name: 'WebhooksModule' }, key: 'security.allowedAddresses' },
    entry,
    'CIDR ranges',
    fix,
  );
}
