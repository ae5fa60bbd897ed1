import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A connection through the proxy. */
interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  /** The text that the client has sent so far. */
  said: string;
  /** If true, the next answer of the server is dropped, and the connection is closed. */
  isLost: boolean;
}

/** A proxy between an application and a server that can cut the connection. */
export class TcpProxy {
  /** The number of refused connections so far. */
  refused = 0;
  private isCut = false;
  private isSilent = false;
  /** Decides by the text of the client whether the next answer is dropped. */
  private losesAnswerTo: ((said: string) => boolean) | null = null;
  /** Decides by the text of the client whether the server of its connection vanishes. */
  private vanishesAt: ((said: string) => boolean) | null = null;
  /** Appended to the next answer that matches. */
  private lastWords: { readonly isIt: (answer: string) => boolean; readonly words: Buffer } | null = null;
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

  /** Closes every connection, and each new connection immediately. */
  cut(): void {
    this.isCut = true;
    for (const { client, server } of this.pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
    for (const orphan of this.orphans) orphan.resetAndDestroy();
  }

  /** Closes the server side of the connections without notice to the clients: their data is accepted, and no answer comes. */
  vanish({ alsoNew = false } = {}): void {
    this.isSilent = alsoNew;
    for (const pair of this.pairs) this.lose(pair);
  }

  /** Lets the server of one connection vanish when its client sends matching text. Other connections work. @returns when it happened */
  vanishAt(isIt: (said: string) => boolean): Promise<void> {
    for (const pair of this.pairs) pair.said = '';
    return new Promise((resolve) => {
      this.vanishesAt = (said) => {
        if (!isIt(said)) return false;
        this.vanishesAt = null;
        resolve();
        return true;
      };
    });
  }

  mend(): void {
    this.isCut = false;
    this.isSilent = false;
  }

  /** Drops the next answer to a matching request, and closes its connection. @param isIt gets the whole text of one client */
  loseAnswerTo(isIt: (said: string) => boolean): void {
    for (const pair of this.pairs) pair.said = '';
    this.losesAnswerTo = isIt;
  }

  /** Appends words to the next answer that matches, and closes its connection. Both arrive at the client in one piece. */
  endAnswerWith(isIt: (answer: string) => boolean, words: Buffer): void {
    this.lastWords = { isIt, words };
  }

  async close(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  private lose(pair: Pair): void {
    this.pairs.delete(pair);
    this.swallow(pair.client);
    pair.server.destroy();
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
    client.setNoDelay(true).on('data', (data) => this.onData(pair, data));
    client.pipe(server.setNoDelay(true));
    server.on('data', (data) => {
      if (pair.isLost) client.resetAndDestroy();
      else if (this.pairs.has(pair)) this.answer(pair, data);
    });
    for (const socket of [client, server]) socket.on('close', () => this.end(pair));
  }

  private end(pair: Pair): void {
    // Connections whose server has vanished are no longer in this list.
    if (!this.pairs.delete(pair)) return;
    pair.client.destroy();
    pair.server.destroy();
  }

  private answer({ client, server }: Pair, data: Buffer): void {
    if (!this.lastWords?.isIt(data.toString('latin1'))) {
      client.write(data);
      return;
    }
    client.end(Buffer.concat([data, this.lastWords.words]));
    this.lastWords = null;
    server.destroy();
  }

  private onData(pair: Pair, data: Buffer): void {
    if (!this.losesAnswerTo && !this.vanishesAt) return;
    pair.said += data.toString('latin1');
    if (this.vanishesAt?.(pair.said)) this.lose(pair);
    if (!this.losesAnswerTo?.(pair.said)) return;
    this.losesAnswerTo = null;
    pair.isLost = true;
  }
}
