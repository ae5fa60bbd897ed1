import type { Socket } from 'node:net';

/** How long the steps of opening a connection took, in milliseconds. `null`: the step was not needed, or did not end. */
export interface ConnectionPhases {
  readonly dnsMs: number | null;
  readonly connectMs: number | null;
  readonly tlsMs: number | null;
}

/**
 * How long the steps of an attempt took, in milliseconds. The rest of the duration of the attempt is the time in which the request waited
 * for a connection, the time in which the body arrived, or the time of a token request.
 */
export interface AttemptPhases extends ConnectionPhases {
  /**
   * - `new`: a connection was opened for this attempt.
   * - `reused`: the attempt used an open connection. So name resolution, connect and TLS took no time, and are `null`.
   * - `none`: no connection was open when the attempt ended. If name resolution or connect failed, the steps before are known. At a time
   *   limit, no step is known.
   */
  readonly connection: 'new' | 'reused' | 'none';
  /**
   * Name resolution. `null` for a literal address, and through a proxy: there it is a part of `connectMs`, or the proxy resolves the name.
   */
  readonly dnsMs: number | null;
  /** Until the TCP connection was open. Through a proxy: until the tunnel was open. */
  readonly connectMs: number | null;
  /** The TLS handshake; `null` for an `http:` URL. */
  readonly tlsMs: number | null;
  /** From the beginning of the request to the status of the answer; `null` if no status arrived. */
  readonly firstByteMs: number | null;
}

/** Measures how long it takes to open one connection. */
export class ConnectionTimer {
  readonly #startedAt = performance.now();
  #resolvedAt: number | null = null;
  #connectedAt: number | null = null;
  #openAt: number | null = null;

  /** Observes a socket that is about to connect. */
  watch(socket: Socket): void {
    socket.once('lookup', (error: Error | null) => {
      if (error === null) this.#resolvedAt ??= performance.now();
    });
    // undici's own listener comes first otherwise, and reports the connection before it is measured.
    socket.prependOnceListener('connect', () => this.connected());
  }

  /** The TCP connection or the tunnel is open. */
  connected(): void {
    this.#connectedAt ??= performance.now();
  }

  /** The connection can be used. */
  opened(): void {
    this.#openAt = performance.now();
  }

  phases(isTls: boolean): ConnectionPhases {
    const from = this.#resolvedAt ?? this.#startedAt;
    return {
      dnsMs: between(this.#startedAt, this.#resolvedAt),
      connectMs: between(from, this.#connectedAt),
      tlsMs: isTls && this.#connectedAt !== null ? between(this.#connectedAt, this.#openAt) : null,
    };
  }
}

function between(from: number, to: number | null): number | null {
  return to === null ? null : Math.round(to - from);
}
