import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A connection that passes through the proxy. */
interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** What the client has said so far. */
  said: string;
  /** What the server says next does not arrive, and the connection ends. */
  isLost: boolean;
}

/** Stands between an application and a server, and can take it away. */
export class TcpProxy {
  /** Connections that were refused so far. */
  refused = 0;
  private isCut = false;
  private isSilent = false;
  /** Says of what a client has said that its answer is to be lost. */
  private losesAnswerTo: ((said: string) => boolean) | null = null;
  private readonly pairs = new Set<Pair>();
  private readonly orphans = new Set<Socket>();
  private server: Server;

  /** @param target the server's host and port */
  static async to(target: { host: string; port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy();
    proxy.server = createServer({ allowHalfOpen: true }, (client) => proxy.pass(client, target)).listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Ends every connection, and each new one at once. */
  cut(): void {
    this.isCut = true;
    for (const { client, server } of this.pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
    for (const orphan of this.orphans) orphan.resetAndDestroy();
  }

  /** The server's ends of the connections are gone, and the clients are never told: what they say is taken, and nobody answers. */
  vanish({ alsoNew = false } = {}): void {
    this.isSilent = alsoNew;
    for (const pair of this.pairs) {
      this.pairs.delete(pair);
      this.swallow(pair.client);
      pair.server.destroy();
    }
  }

  mend(): void {
    this.isCut = false;
    this.isSilent = false;
  }

  /** The answer to the next thing that is said like this is lost, with its connection. @param isIt of all that one client has said */
  loseAnswerTo(isIt: (said: string) => boolean): void {
    for (const pair of this.pairs) pair.said = '';
    this.losesAnswerTo = isIt;
  }

  async close(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  private swallow(client: Socket): void {
    client.unpipe().removeAllListeners('data').resume();
    this.orphans.add(client);
    client.on('close', () => this.orphans.delete(client));
  }

  private pass(client: Socket, target: { host: string; port: number }): void {
    client.on('error', () => client.destroy());
    if (this.isSilent) {
      this.swallow(client);
      return;
    }
    if (this.isCut) {
      this.refused++;
      client.resetAndDestroy();
      return;
    }
    const server = connect(target);
    server.on('error', () => server.destroy());
    const pair: Pair = { client, server, said: '', isLost: false };
    this.pairs.add(pair);
    client.setNoDelay(true).on('data', (data) => this.hear(pair, data));
    client.pipe(server.setNoDelay(true));
    server.on('data', (data) => {
      if (pair.isLost) client.resetAndDestroy();
      else if (this.pairs.has(pair)) client.write(data);
    });
    for (const socket of [client, server]) socket.on('close', () => this.end(pair));
  }

  private end(pair: Pair): void {
    // One whose server has vanished is not among them any more.
    if (!this.pairs.delete(pair)) return;
    pair.client.destroy();
    pair.server.destroy();
  }

  private hear(pair: Pair, data: Buffer): void {
    if (!this.losesAnswerTo) return;
    pair.said += data.toString('latin1');
    if (!this.losesAnswerTo(pair.said)) return;
    this.losesAnswerTo = null;
    pair.isLost = true;
  }
}
