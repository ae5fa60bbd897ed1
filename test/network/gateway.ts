import { once } from 'node:events';
import { connect, type AddressInfo, type Server, type Socket } from 'node:net';

/** Where a gateway leads: a server on a loopback address of this machine. */
export interface GatewayTarget {
  readonly host: string;
  readonly port: number;
}

/**
 * Carries the connections of one address in a network namespace to a server on loopback, which is outside the namespace. The server may be
 * one that the machine already has, and needs no address of its own in the namespace.
 */
export class Gateway {
  /** How long each piece of data is held, in either direction. For a kernel without `netem`. */
  delayMs = 0;
  private readonly sockets = new Set<Socket>();

  /** @param server listens in the namespace */
  constructor(
    private readonly server: Server,
    private readonly target: GatewayTarget,
  ) {
    server.on('connection', (client: Socket) => this.pass(client));
  }

  get address(): string {
    return (this.server.address() as AddressInfo).address;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }

  private pass(client: Socket): void {
    const server = connect(this.target);
    this.carry(client, server);
    this.carry(server, client);
  }

  private carry(from: Socket, to: Socket): void {
    this.sockets.add(from);
    from.setNoDelay(true).on('error', () => to.destroy());
    from.on('data', (data) => this.later(() => to.writable && to.write(data)));
    from.on('close', () => {
      this.sockets.delete(from);
      this.later(() => to.end());
    });
  }

  private later(act: () => unknown): void {
    if (this.delayMs === 0) act();
    else setTimeout(act, this.delayMs);
  }
}
