import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { expect } from 'vitest';
import type { StreamEvent, StreamOverview, WebhooksClient } from 'nestjs-entity-webhooks/client';

/** A stream that a test reads with the client. */
export class StreamReading {
  readonly events: Exclude<StreamEvent, { event: 'overview' }>[] = [];
  readonly overviews: StreamOverview['overview'][] = [];
  /** What ended the loop, if the test did not. */
  problem: unknown;
  opened = 0;
  lastId: string | undefined;
  readonly ended: Promise<void>;
  private readonly controller = new AbortController();

  constructor(client: WebhooksClient, filter: Parameters<WebhooksClient['stream']>[0] = {}, lastId?: string) {
    this.ended = this.read(client, filter, lastId);
  }

  private async read(client: WebhooksClient, filter: object, lastId: string | undefined): Promise<void> {
    const options = {
      signal: this.controller.signal,
      onPosition: (id: string) => (this.lastId = id),
      onOpen: () => this.opened++,
      ...(lastId === undefined ? {} : { lastId }),
    };
    try {
      for await (const event of client.stream(filter, options)) {
        // It comes every 10 s, whatever happens.
        if (event.event === 'overview') this.overviews.push(event.data.overview);
        else this.events.push(event);
      }
    } catch (error) {
      this.problem = error;
    }
  }

  /** Such as `order.created succeeded 1 accepted` and `listener disabled`. */
  get texts(): string[] {
    return this.events.map(({ event, data }) => {
      if (event === 'reset') return 'reset';
      if (event === 'task') return `${data.task.kind} ${data.task.state} ${data.task.done}`;
      if (event === 'listener') return `listener ${data.listener.isRemoved ? 'removed' : data.listener.state}`;
      const { delivery, attempt } = data;
      return `${delivery.type} ${delivery.state}${attempt ? ` ${attempt.number} ${attempt.outcome}` : ''}`;
    });
  }

  /** The ids of its deliveries, each as often as it was sent. */
  get deliveries(): string[] {
    return this.events.flatMap(({ event, data }) => (event === 'delivery' ? [data.delivery.id] : []));
  }

  /** Waits until the stream sends what happens. */
  async isOpen(): Promise<this> {
    await expect.poll(() => this.lastId ?? this.problem).toBeDefined();
    return this;
  }

  async close(): Promise<void> {
    this.controller.abort();
    await this.ended;
  }
}

/** Passes connections on to a port, and cuts each after a number of bytes of the answer. */
export class CuttingProxy {
  /** `0`: no connection is accepted. */
  target = 0;
  cutAfterBytes = Infinity;
  cuts = 0;
  private readonly server = createServer((client) => {
    const server = connect(this.target || 1, '127.0.0.1');
    let bytes = 0;
    client.on('error', () => server.destroy()).on('close', () => server.destroy());
    server.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.pipe(server);
    server.on('data', (data: Buffer) => {
      const left = this.cutAfterBytes - bytes;
      bytes += data.length;
      client.write(data.subarray(0, Math.min(data.length, left)));
      if (bytes < this.cutAfterBytes) return;
      this.cuts += 1;
      client.end();
      server.destroy();
    });
  });

  async start(): Promise<this> {
    await once(this.server.listen(0, '127.0.0.1'), 'listening');
    return this;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.close();
  }
}
