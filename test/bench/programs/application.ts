import 'reflect-metadata';
import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitter2, EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { HttpService } from '@nestjs/axios';
import {
  DeliveryService,
  DispatcherService,
  getWebhooksHttpToken,
  ListenerService,
  LIFECYCLE_EVENTS,
  SystemService,
  eventName,
  WebhooksModule,
  type DeliveryState,
  type WebhookEvent,
  type WebhooksOptions,
  type WebhooksParts,
} from 'nestjs-entity-webhooks';
import { bullmqEngine } from 'nestjs-entity-webhooks/bullmq';
import { WebhooksTelemetryModule } from 'nestjs-entity-webhooks/otel';
import { metrics } from '@opentelemetry/api';
import { Redis } from 'ioredis';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import {
  DataSource,
  type DataSourceOptions,
  type EntitySubscriberInterface,
  type QueryRunner,
  type Repository,
} from 'typeorm';
import { LOOPBACK } from '../loopback.js';
import { measure, monotonicMs, type Measurement } from '../measure.js';
import { FILLING } from '../signed.js';
import { atRate, type Rate } from './at-rate.js';
import { copyListeners, type CopiedListeners } from './copied-listeners.js';
import { silenceNameServers } from './never-resolved.js';
import { addListenersOf, publishAt, PUBLISHED_TYPE, type PublishedTraffic } from './published.js';
import { CapturedParcel, Crate, LoadedParcel, Parcel, PlainCrate, PlainParcel } from './parcel.js';

// A Nest application as a user of the library writes it.

export interface ApplicationOptions {
  readonly database: DataSourceOptions;
  /** Create the tables; needed once per database. */
  readonly synchronize?: boolean;
  /** Options beside the defaults. `security` is set, and the dispatcher does not run until {@link start}. */
  readonly webhooks?: WebhooksOptions;
  /** Parts that replace those of the library. */
  readonly parts?: WebhooksParts;
  /** Processes notify each other through this server. */
  readonly redisUrl?: string;
  /** BullMQ says which listener is due: the URL of Redis, and the prefix of the keys. */
  readonly engine?: { readonly url: string; readonly prefix: string };
  /** Name servers never answer for `*.never.test`. */
  readonly areNameServersSilent?: boolean;
  /** Add an interceptor to the module's `HttpService`, as an application does that signs for a gateway. */
  readonly isIntercepted?: boolean;
  /** Measure with OpenTelemetry, whose SDK collects but exports nothing. */
  readonly hasTelemetry?: boolean;
  /** Count no statistics. The library has no option for this. */
  readonly isWithoutStatistics?: boolean;
}

let app: INestApplicationContext;

/** The application of this process, for other programs. */
export function runningApp(): INestApplicationContext {
  return app;
}

/** Makes the SDK keep the measurements, as an exporter does that nobody scrapes. */
class Collecting extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

const MB = 2 ** 20;
let peakRss = 0;
setInterval(() => {
  peakRss = Math.max(peakRss, process.memoryUsage.rss());
}, 250).unref();

export async function open(options: ApplicationOptions): Promise<void> {
  const { engine, redisUrl } = options;
  if (options.areNameServersSilent) await silenceNameServers();
  if (options.isWithoutStatistics) await countNothing();
  if (options.hasTelemetry) metrics.setGlobalMeterProvider(new MeterProvider({ readers: [new Collecting()] }));
  @Module({
    imports: [
      TypeOrmModule.forRoot({
        ...options.database,
        entities: [Parcel, LoadedParcel, CapturedParcel, PlainParcel, Crate, PlainCrate],
        synchronize: options.synchronize ?? false,
        retryAttempts: 0,
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: LOOPBACK,
        publishedTypes: [PUBLISHED_TYPE],
        ...options.webhooks,
        ...(redisUrl !== undefined && { wakeUp: { redis: () => new Redis(redisUrl) } }),
        ...(options.parts && { parts: options.parts }),
        dispatcher: {
          autoStart: false,
          ...(engine && { engine: bullmqEngine({ connection: { url: engine.url }, prefix: engine.prefix }) }),
          ...options.webhooks?.dispatcher,
        },
      }),
      WebhooksModule.forFeature([Parcel, LoadedParcel, CapturedParcel, Crate]),
      ...(options.hasTelemetry ? [WebhooksTelemetryModule.forRoot()] : []),
    ],
  })
  class AppModule {}
  app = await NestFactory.createApplicationContext(AppModule, { logger: ['error', 'warn'], abortOnError: false });
  if (!options.isIntercepted) return;
  app.get<HttpService>(getWebhooksHttpToken(), { strict: false }).axiosRef.interceptors.request.use((config) => {
    config.headers.set('x-gateway', 'bench');
    return config;
  });
}

async function countNothing(): Promise<void> {
  const file = new URL('dispatcher/attempt-stats.js', import.meta.resolve('nestjs-entity-webhooks'));
  const { AttemptStats } = (await import(file.href)) as { AttemptStats: { prototype: { add: () => void } } };
  AttemptStats.prototype.add = () => undefined;
}

/** Creates listeners to `url/0`, `url/1`, …, each with its own topic. */
export async function addListeners(url: string, count: number): Promise<void> {
  const listeners = app.get(ListenerService);
  for (let topic = 0; topic < count; topic++) {
    await listeners.create({ entity: Parcel, where: { topic }, url: `${url}/${topic}` });
  }
}

/** Creates one listener of a topic. */
export async function addListener(url: string, topic: number): Promise<void> {
  await app.get(ListenerService).create({ entity: Parcel, where: { topic }, url });
}

export function addOwnersListeners(what: Parameters<typeof addListenersOf>[1]): Promise<void> {
  return addListenersOf(app, what);
}

export function publish(what: PublishedTraffic): Promise<Written[]> {
  return publishAt(app, what);
}

/** Stores events by `save()` of 1,000 entities at a time; the topics repeat in order. */
export async function fill(count: number, topics: number): Promise<void> {
  for (let from = 0; from < count; from += 1_000) {
    await save(Array.from({ length: Math.min(1_000, count - from) }, (_, i) => (from + i) % topics));
  }
}

/** Stores one event for each topic, by `save()` of 1,000 entities at a time. */
export async function save(topics: readonly number[]): Promise<void> {
  const parcels = app.get(DataSource).getRepository(Parcel);
  for (let from = 0; from < topics.length; from += 1_000) {
    await parcels.save(topics.slice(from, from + 1_000).map((topic) => parcels.create({ topic, text: FILLING })));
  }
}

/** Creates thousands of listeners, on PostgreSQL. */
export function addManyListeners(what: CopiedListeners): Promise<void> {
  return copyListeners(app.get(DataSource), app.get(ListenerService), what);
}

/** Pauses or resumes sending in all processes. */
export async function switchSending(isOn: boolean): Promise<void> {
  const system = app.get(SystemService);
  await (isOn ? system.resumeSending() : system.pauseSending());
}

/** Routes all pending events and sends their deliveries, one batch after the other. */
export async function route(count: number): Promise<Measurement & { events: number; attempts: number }> {
  let did = { events: 0, attempts: 0 };
  const measurement = await measure(count, async () => {
    did = await app.get(DispatcherService).drain();
  });
  return { ...measurement, ...did };
}

const progress = { succeeded: 0, lastAt: 0 };
let cpuAtStart = process.cpuUsage();

function progressOne(): void {
  progress.succeeded++;
  progress.lastAt = monotonicMs();
}

/**
 * Starts the dispatcher, and leaves it running.
 *
 * @param isCounting whether this process counts its successes, by subscribing to lifecycle events. A subscription
 * makes every promise of a Node.js 20 process slower, so speed is measured from outside
 */
export function start(isCounting = false): void {
  progress.succeeded = 0;
  cpuAtStart = process.cpuUsage();
  if (isCounting) app.get(EventEmitter2).on(LIFECYCLE_EVENTS.succeeded, progressOne);
  app.get(DispatcherService).start();
}

/** Stops the dispatcher. @returns the CPU time of this process since {@link start}, in microseconds */
export async function halt(): Promise<number> {
  const { user, system } = process.cpuUsage(cpuAtStart);
  await app.get(DispatcherService).stop();
  app.get(EventEmitter2).off(LIFECYCLE_EVENTS.succeeded, progressOne);
  return user + system;
}

/** @returns the CPU time of this process, in microseconds */
export function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Deliveries that this process has recorded since {@link start}, if it counts, and the time of the last one. */
export function progressed(): { succeeded: number; lastAt: number } {
  return { ...progress };
}

/** The largest resident size since the last call, in MB. */
export function largestRss(): number {
  const largest = Math.max(peakRss, process.memoryUsage.rss()) / MB;
  peakRss = 0;
  return largest;
}

/** Whether a delivery is pending, or its record is. */
export async function isUnfinished(): Promise<boolean> {
  const [row] = await app
    .get(DataSource)
    .query<{ found: unknown }[]>(
      "select exists (select 1 from webhook_outbox) or exists (select 1 from webhook_leases) or exists (select 1 from webhook_deliveries where state = 'leased') or exists (select 1 from webhook_deliveries where state = 'due') as found",
    );
  return Boolean(row?.found);
}

/** Stored events that no worker has routed yet. */
export async function pending(): Promise<number> {
  const [row] = await app
    .get(DataSource)
    .query<{ count: unknown }[]>('select count(*) as count from webhook_outbox where claims = 0');
  return Number(row?.count);
}

/** One of many writes. */
export interface Written {
  /** Path of the listener, and `webhook-id`, as the receiver reports them. */
  readonly key: string;
  /** When the COMMIT was done, by the host's monotonic clock, in milliseconds. */
  readonly committedAt: number;
}

export interface Traffic extends Rate {
  /** The topics of the rows repeat from the first to the last. */
  readonly topics: readonly [first: number, last: number];
}

/**
 * Saves one row after the other, each in its own transaction, at a fixed rate that does not wait for earlier writes.
 */
export async function write({ perSecond, seconds, topics: [first, last] }: Traffic): Promise<Written[]> {
  const dataSource = app.get(DataSource);
  const emitter = app.get(EventEmitter2);
  const commits = new CommitTimes();
  const ids = new Map<number, string>();
  const onEvent = ({ id, data }: WebhookEvent): void => void ids.set(Number(data['id']), id);
  emitter.on(eventName('parcel.created'), onEvent);
  dataSource.subscribers.push(commits);
  const parcels = dataSource.getRepository(Parcel);
  const saved = await atRate({ perSecond, seconds }, (n) => {
    const topic = first + (n % (last - first + 1));
    return parcels.save(parcels.create({ topic, text: FILLING }));
  });
  // Events are emitted after the promise of their write has settled.
  await new Promise((resolve) => setImmediate(resolve));
  dataSource.subscribers.splice(dataSource.subscribers.indexOf(commits), 1);
  emitter.off(eventName('parcel.created'), onEvent);
  return saved.map(({ id, topic }) => ({
    key: `/${topic} ${ids.get(id)}`,
    committedAt: commits.at.get(id) ?? Number.NaN,
  }));
}

/** Records when the COMMIT of each inserted row was done. */
class CommitTimes implements EntitySubscriberInterface<Parcel> {
  readonly at = new Map<number, number>();
  private readonly inserted = new WeakMap<QueryRunner, number>();

  afterInsert({ entity, queryRunner }: { entity: { id?: unknown }; queryRunner: QueryRunner }): void {
    this.inserted.set(queryRunner, Number(entity.id));
  }

  afterTransactionCommit({ queryRunner }: { queryRunner: QueryRunner }): void {
    const id = this.inserted.get(queryRunner);
    if (id !== undefined) this.at.set(id, monotonicMs());
    this.inserted.delete(queryRunner);
  }
}

/** How long writes took, in milliseconds each: of a decorated entity, and of its twin. */
export interface WriteTimes {
  readonly decorated: number[];
  readonly plain: number[];
}

/** Times of `save()`, with those of the twin with `exactPrevious: false`. */
export interface SaveTimes extends WriteTimes {
  readonly loaded: number[];
}

/** Saves rows of all three entities in turn, so that a slow moment of the machine slows all of them. */
export async function timeWrites(what: 'updated' | 'inserted', times: number, rowsEach: number): Promise<SaveTimes> {
  const dataSource = app.get(DataSource);
  const found: SaveTimes = { decorated: [], loaded: [], plain: [] };
  const twins = [
    { rows: dataSource.getRepository(Parcel), into: found.decorated },
    { rows: dataSource.getRepository<Parcel>(LoadedParcel), into: found.loaded },
    { rows: dataSource.getRepository<Parcel>(PlainParcel), into: found.plain },
  ] as const;
  const some = (topic: number) => Array.from({ length: rowsEach }, () => ({ topic, text: FILLING }));
  const standing = await Promise.all(twins.map(({ rows }) => rows.save(rows.create(some(0)))));
  for (let topic = 1; topic <= times; topic++) {
    // Each twin takes each place in turn, because a twin also collects the garbage of the twin before it.
    for (let place = 0; place < twins.length; place++) {
      const i = (topic + place) % twins.length;
      const { rows, into } = twins[i] as (typeof twins)[number];
      const updated = standing[i] ?? [];
      for (const row of updated) row.topic = topic;
      const written = what === 'updated' ? updated : rows.create(some(topic));
      const start = performance.now();
      await rows.save(written);
      into.push(performance.now() - start);
    }
  }
  return found;
}

/** A write through a query builder, as an application makes it; the table has `rows` when it begins. */
const BUILDER_WRITES = {
  updateOne: ({ rows, ids }) => rows.update(ids[0] as number, { topic: () => 'topic + 1' }),
  updateThousand: ({ rows }) => rows.update({ isHeld: 0 }, { topic: () => 'topic + 1' }),
  deleteOne: ({ rows, ids }) => rows.delete(ids[0] as number),
  insertOne: ({ rows }) => rows.insert({ topic: 1, text: FILLING, isHeld: 1 }),
  async insertThousand({ rows }) {
    await insertThousand(rows, 1);
  },
  upsertOne: ({ rows, n }) => rows.upsert({ code: 'one', topic: n, text: FILLING, isHeld: 1 }, ['code']),
  softDeleteOne: ({ rows, ids }) => rows.softDelete(ids[0] as number),
} satisfies Record<string, (write: { rows: Repository<Crate>; ids: number[]; n: number }) => Promise<unknown>>;

export type BuilderWrite = keyof typeof BUILDER_WRITES;

/**
 * In two statements: with a thousand rows TypeORM itself cannot read the generated columns back on SQLite
 * ("Expression tree is too large").
 */
async function insertThousand(rows: Repository<Crate>, isHeld: number): Promise<void> {
  for (let half = 0; half < 2; half++) {
    await rows.insert(Array.from({ length: 500 }, () => ({ topic: 1, text: FILLING, isHeld })));
  }
}

/** Writes both entities in turn through query builders. */
export async function timeBuilderWrites(what: BuilderWrite, times: number): Promise<WriteTimes> {
  const dataSource = app.get(DataSource);
  const found: WriteTimes = { decorated: [], plain: [] };
  const twins = [
    { rows: dataSource.getRepository(Crate), into: found.decorated },
    { rows: dataSource.getRepository<Crate>(PlainCrate), into: found.plain },
  ] as const;
  for (const { rows } of twins) {
    await dataSource.query(`DELETE FROM ${rows.metadata.tableName}`);
    if (what === 'updateThousand') {
      await insertThousand(rows, 0);
    }
  }
  for (let n = 0; n < times; n++) {
    for (const { rows, into } of twins) {
      const isOfOne = what === 'updateOne' || what === 'deleteOne' || what === 'softDeleteOne';
      const { identifiers } = isOfOne ? await rows.insert({ topic: 1, text: FILLING, isHeld: 1 }) : { identifiers: [] };
      const ids = identifiers.map(({ id }) => id as number);
      const start = performance.now();
      await BUILDER_WRITES[what]({ rows, ids, n });
      into.push(performance.now() - start);
    }
  }
  return found;
}

/** How long each statement took, in ms. */
export type TriggerTimes = Record<'inserted' | 'updated' | 'deleted', { captured: number[]; plain: number[] }>;

/** Inserts, updates and deletes a number of rows by one SQL statement each, in two tables in turn. */
export async function timeTriggers(times: number, rowsEach: number): Promise<TriggerTimes> {
  const runner = app.get(DataSource).createQueryRunner();
  const found: TriggerTimes = {
    inserted: { captured: [], plain: [] },
    updated: { captured: [], plain: [] },
    deleted: { captured: [], plain: [] },
  };
  const twins = [
    ['captured_parcel', 'captured'],
    ['plain_parcel', 'plain'],
  ] as const;
  const values = Array.from({ length: rowsEach }, (_, n) => `(${n}, '${FILLING}')`).join(', ');
  for (let time = 0; time < times; time++) {
    for (const [table, which] of twins) {
      const timed = async (what: keyof TriggerTimes, statement: string) => {
        const start = performance.now();
        await runner.query(statement);
        found[what][which].push(performance.now() - start);
      };
      await timed('inserted', `insert into ${table} (topic, text) values ${values}`);
      await timed('updated', `update ${table} set topic = topic + 1`);
      await timed('deleted', `delete from ${table}`);
    }
    // Delete the rows that pile up: their number is not measured.
    if (rowsEach > 1 || time % 500 === 0) await runner.query('delete from webhook_images');
  }
  await runner.release();
  return found;
}

/** The deliveries of the event that was stored last, and their listeners. */
export async function lastEvent(): Promise<{ deliveries: number; listeners: number }> {
  const [row] = await app
    .get(DataSource)
    .query<{ deliveries: unknown; listeners: unknown }[]>(
      'select count(*) as deliveries, count(distinct listener_id) as listeners from webhook_deliveries where event_seq = (select max(seq) from webhook_events)',
    );
  return { deliveries: Number(row?.deliveries), listeners: Number(row?.listeners) };
}

/** The rows of the tables. */
export async function stored(): Promise<{
  deliveries: Record<DeliveryState, number>;
  attempts: number;
  /** Events in the outbox, and leases of events with a delivery that has no row yet. */
  events: number;
}> {
  const deliveries = await app.get(DeliveryService).counts();
  const [row] = await app.get(DataSource).query<{ attempts: unknown; events: unknown }[]>(
    `select (select count(*) from webhook_attempts) + (select count(*) from webhook_deliveries where outcome is not null) as attempts,
         (select count(*) from webhook_outbox) + (select count(*) from webhook_leases) as events`,
  );
  return { deliveries, attempts: Number(row?.attempts), events: Number(row?.events) };
}

export function close(): Promise<void> {
  return app.close();
}
