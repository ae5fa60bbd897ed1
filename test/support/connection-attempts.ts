import { Socket } from 'node:net';

/** An address that a socket of this process passed to the operating system's connect call. */
export interface ConnectionAttempt {
  readonly address: string;
  readonly port: number;
}

/**
 * Records every connection that this process tries to open, with or without TLS, in any library. The socket itself emits
 * `connectionAttempt` for each address, right before the call of the operating system.
 */
export class ConnectionAttempts {
  readonly all: ConnectionAttempt[] = [];
  readonly #connect = Socket.prototype.connect;

  constructor() {
    const { all } = this;
    const connect = this.#connect as (this: Socket, ...args: unknown[]) => Socket;
    Socket.prototype.connect = function (this: Socket, ...args: unknown[]) {
      this.on('connectionAttempt', (address: string, port: number) => all.push({ address, port }));
      return connect.apply(this, args);
    } as typeof Socket.prototype.connect;
  }

  get addresses(): string[] {
    return this.all.map(({ address }) => address);
  }

  /** Stops recording. */
  stop(): void {
    Socket.prototype.connect = this.#connect;
  }
}
