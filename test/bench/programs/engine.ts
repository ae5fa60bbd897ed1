import { subscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import { RetrySchedule, SystemService, WEBHOOKS_CHANNELS, type WebhooksMessages } from 'nestjs-entity-webhooks';
import { DataSource } from 'typeorm';
import { FILLING } from '../signed.js';
import { runningApp, open as openApplication, type ApplicationOptions } from './application.js';
import { PlainParcel } from './parcel.js';

// The application of the other scenarios, with what the scenarios about costs and the simulation need beside it.

export * from './application.js';

/** {@link ApplicationOptions}, and a retry schedule that is short enough for a benchmark. */
export interface EngineOptions extends ApplicationOptions {
  /** Delays before the second, third … attempt. @defaultValue the schedule of the library */
  readonly retryDelaysMs?: readonly number[];
}

export function open({ retryDelaysMs, ...options }: EngineOptions): Promise<void> {
  if (!retryDelaysMs) return openApplication(options);
  class Short extends RetrySchedule {
    delayMs(failures: number): number | null {
      return retryDelaysMs?.[failures - 1] ?? null;
    }
  }
  return openApplication({ ...options, parts: { retrySchedule: Short } });
}

/** Transactions of the dispatcher, and round trips to the database, since {@link countSteps}. */
export interface Steps {
  readonly route: number;
  readonly claim: number;
  readonly record: number;
  readonly roundTrips: number;
}

const counted = { route: 0, claim: 0, record: 0, roundTrips: 0 };

/** Begins to count. @param port of the database server */
export function countSteps(port: number): void {
  subscribe(WEBHOOKS_CHANNELS.step, (message) => {
    const { step } = message as WebhooksMessages['step'];
    if (step in counted) counted[step as keyof Steps]++;
  });
  countRoundTrips(port);
}

export function steps(): Steps {
  return { ...counted };
}

/** A round trip begins with the first bytes that are sent after an answer. */
function countRoundTrips(port: number): void {
  const asked = new WeakSet<Socket>();
  const heard = new WeakSet<Socket>();
  const { write } = Socket.prototype;
  Socket.prototype.write = function (this: Socket, ...args: Parameters<typeof write>) {
    if (this.remotePort === port) {
      if (!asked.has(this)) counted.roundTrips++;
      asked.add(this);
      if (!heard.has(this)) this.on('data', () => asked.delete(this));
      heard.add(this);
    }
    return write.apply(this, args);
  } as typeof write;
}

/** Pauses or resumes all sending. While it is paused, events are routed, and their deliveries are stored. */
export async function switchSending(isOn: boolean): Promise<void> {
  const system = runningApp().get(SystemService);
  await (isOn ? system.resumeSending() : system.pauseSending({ reason: 'a benchmark' }));
}

/** Events and deliveries that are not finished. */
export async function unfinished(): Promise<number> {
  const [row] = await runningApp()
    .get(DataSource)
    .query<{ count: unknown }[]>(
      "select (select count(*) from webhook_outbox) + (select count(*) from webhook_leases) + (select count(*) from webhook_deliveries where state = 'due') + (select count(*) from webhook_deliveries where state = 'leased') as count",
    );
  return Number(row?.count);
}

/** Saves entities without events, as `fill` saves entities with events. */
export async function fillPlain(count: number): Promise<void> {
  const parcels = runningApp().get(DataSource).getRepository(PlainParcel);
  for (let from = 0; from < count; from += 1_000) {
    await parcels.save(
      Array.from({ length: Math.min(1_000, count - from) }, (_, i) => parcels.create({ topic: i, text: FILLING })),
    );
  }
}

/** Bytes of a table with its indexes, for each of its rows. */
export async function bytesPerRow(table: 'events' | 'deliveries' | 'attempts'): Promise<number> {
  const dataSource = runningApp().get(DataSource);
  await dataSource.query(`vacuum analyze webhook_${table}`);
  const [row] = await dataSource.query<{ bytes: unknown }[]>(
    `select pg_total_relation_size('webhook_${table}')::float / nullif((select count(*) from webhook_${table}), 0) as bytes`,
  );
  return Number(row?.bytes ?? 0);
}
