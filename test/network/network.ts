import { execFile, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Gateway, type GatewayTarget } from './gateway.js';

const run = promisify(execFile);

/** Addresses for tests of networks (RFC 2544). They exist in the namespaces only. */
const ADDRESSES = '198.18.0.0/15';
const hostAddress = (host: number) => `198.18.${host}.2`;
const hubAddress = (host: number) => `198.18.${host}.1`;
const serviceAddress = (service: number) => `198.19.0.${service + 1}`;

/** For receivers in the namespaces. */
export const ALLOWED = { allowedAddresses: [ADDRESSES, '127.0.0.0/8'], allowHttp: true };

/** The packets that a link drops, as the host sees them: those it sends, those it should receive, or both. */
export type Direction = 'requests' | 'answers' | 'both';

/**
 * Hosts with a link each to a hub, on which all services have their addresses. Hosts and hub are network namespaces, so all packets pass the
 * TCP of the kernel. Dropped packets leave both ends of a connection open: no RST and no ICMP tells them.
 */
export class Network {
  private readonly hosts: Host[] = [];

  private constructor(
    private readonly hub: string,
    private readonly gateways: readonly Gateway[],
  ) {}

  /** @param targets the services, in the order of {@link gateway} */
  static async create(targets: readonly GatewayTarget[]): Promise<Network> {
    const hub = `webhooks-test-${randomBytes(4).toString('hex')}`;
    const addresses = targets.map((_, index) => serviceAddress(index));
    await run('ip', ['netns', 'add', hub]);
    try {
      for (const address of addresses) await run('ip', ['-n', hub, 'address', 'add', `${address}/32`, 'dev', 'lo']);
      await run('ip', ['-n', hub, 'link', 'set', 'lo', 'up']);
      const servers = await listenIn(hub, addresses);
      return new Network(
        hub,
        targets.map((target, index) => new Gateway(servers[index] as Server, target)),
      );
    } catch (error) {
      await run('ip', ['netns', 'delete', hub]);
      throw error;
    }
  }

  /** The address at which hosts reach a service. @param index of the service in `create()` */
  gateway(index: number): Gateway {
    return this.gateways[index] as Gateway;
  }

  async addHost(): Promise<Host> {
    const host = new Host(this.hub, this.hosts.length);
    this.hosts.push(host);
    await host.create();
    return host;
  }

  /** @param delayMs from now on, in each direction: twice as much for a round trip */
  delay(delayMs: number): void {
    for (const gateway of this.gateways) gateway.delayMs = delayMs;
  }

  async remove(): Promise<void> {
    await Promise.all(this.gateways.map((gateway) => gateway.close()));
    for (const { name } of [...this.hosts, { name: this.hub }]) await run('ip', ['netns', 'delete', name]);
  }
}

/** A host of a {@link Network}. */
export class Host {
  readonly name: string;
  /** In front of a command, runs it on this host. */
  readonly command: readonly string[];
  private readonly link: string;

  constructor(
    private readonly hub: string,
    private readonly index: number,
  ) {
    this.name = `${hub}-${index}`;
    this.link = `host${index}`;
    this.command = ['ip', 'netns', 'exec', this.name];
  }

  /** @internal */
  async create(): Promise<void> {
    const { name, hub, link, index } = this;
    await run('ip', ['netns', 'add', name]);
    await run('ip', ['link', 'add', 'hub', 'netns', name, 'type', 'veth', 'peer', 'name', link, 'netns', hub]);
    for (const [namespace, device, address] of [
      [name, 'hub', hostAddress(index)],
      [hub, link, hubAddress(index)],
    ] as const) {
      await run('ip', ['-n', namespace, 'address', 'add', `${address}/30`, 'dev', device]);
      await run('ip', ['-n', namespace, 'link', 'set', device, 'up']);
    }
    await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    await run('ip', ['-n', name, 'route', 'add', 'default', 'via', hubAddress(index)]);
    await run('tc', ['-n', hub, 'qdisc', 'add', 'dev', link, 'clsact']);
  }

  /**
   * Drops packets between this host and a service, until {@link mend}.
   *
   * @param share of the packets, chosen at random; 1 drops all
   */
  async drop(service: Gateway, share = 1, direction: Direction = 'both'): Promise<void> {
    if (direction !== 'answers') await this.filter('replace', 'ingress', service, share);
    if (direction !== 'requests') await this.filter('replace', 'egress', service, share);
  }

  /** Ends {@link drop}. The kernel repeats the packets of open connections later: the longer they were dropped, the later. */
  async mend(service: Gateway): Promise<void> {
    // One of the two may not exist.
    for (const hook of ['ingress', 'egress'] as const)
      await this.filter('delete', hook, service).catch(() => undefined);
  }

  /** The connections to a service that the kernel of this host knows, also those that its programs have closed. */
  async connections({ address }: Gateway): Promise<string[]> {
    const { stdout } = await run('ip', ['netns', 'exec', this.name, 'ss', '-Htn', 'dst', address]);
    return stdout.split('\n').filter((line) => line !== '');
  }

  private async filter(verb: string, hook: 'ingress' | 'egress', service: Gateway, share?: number): Promise<void> {
    const at = ['dev', this.link, hook, 'prio', String(1 + Number(service.address.split('.').at(-1)))];
    const program =
      share === undefined ? [] : ['handle', '1', 'bpf', 'da', 'bytecode', dropping(service.address, hook, share)];
    const protocol = share === undefined ? [] : ['protocol', 'all'];
    await run('tc', ['-n', this.hub, 'filter', verb, ...at, ...protocol, ...program]);
  }
}

/** Offsets in an Ethernet frame with an IPv4 packet. */
const ETHER_TYPE = 12;
const SOURCE = 26;
const DESTINATION = 30;
/** `SKF_AD_OFF + SKF_AD_RANDOM` of `linux/filter.h`: reading there gives a random number. */
const RANDOM = 0xffff_f000 + 56;
/** Of `linux/pkt_cls.h`. */
const DROP = 2;
const ASK_NEXT_FILTER = 0xffff_ffff;

/**
 * A classic BPF program for `tc`, as instructions `code jump-if-true jump-if-false operand`: it drops a share of the packets to (`ingress`,
 * seen from the hub) or from (`egress`) an address.
 */
function dropping(address: string, hook: 'ingress' | 'egress', share: number): string {
  const ip = address.split('.').reduce((number, part) => number * 256 + Number(part), 0);
  const program = [
    `40 0 0 ${ETHER_TYPE}`,
    `21 0 5 ${0x0800}`,
    `32 0 0 ${hook === 'ingress' ? DESTINATION : SOURCE}`,
    `21 0 3 ${ip}`,
    `32 0 0 ${RANDOM}`,
    `37 1 0 ${Math.floor(share * 0xffff_ffff)}`,
    `6 0 0 ${DROP}`,
    `6 0 0 ${ASK_NEXT_FILTER}`,
  ];
  return `${program.length},${program.join(',')}`;
}

/** Servers that listen in a namespace, although this process is not in it. */
async function listenIn(namespace: string, addresses: readonly string[]): Promise<Server[]> {
  const listener = fork(join(import.meta.dirname, 'listen.mjs'), [...addresses], {
    execPath: 'ip',
    execArgv: ['netns', 'exec', namespace, process.execPath],
  });
  const exited = once(listener, 'exit');
  const servers: Server[] = [];
  const listening = new Promise<void>((resolve) => {
    listener.on('message', (index: number, server) => {
      servers[index] = server as Server;
      if (Object.keys(servers).length === addresses.length) resolve();
    });
  });
  await Promise.race([listening, exited.then(failed)]);
  listener.send('received');
  await exited;
  return servers;
}

function failed(): never {
  throw new Error('the program that listens in the namespace ended too early');
}
