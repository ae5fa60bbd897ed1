import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Stands between an application and a server, and can take it away. */
export class TcpProxy {
  /** Connections that were refused so far. */
  refused = 0;
  private isCut = false;
  private readonly sockets = new Set<Socket>();
  private server: Server;

  /** @param target the server's host and port */
  static async to(target: { host: string; port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy();
    proxy.server = createServer((client) => proxy.pass(client, target)).listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Ends every connection, and each new one at once. */
  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  mend(): void {
    this.isCut = false;
  }

  async close(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  private pass(client: Socket, target: { host: string; port: number }): void {
    client.on('error', () => client.destroy());
    if (this.isCut) {
      this.refused++;
      client.resetAndDestroy();
      return;
    }
    const server = connect(target);
    server.on('error', () => server.destroy());
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.sockets.add(from);
      from.setNoDelay(true).pipe(to);
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}
