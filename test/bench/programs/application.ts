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
  Webhook,
  WEBHOOK_FACTS,
  WebhooksModule,
  type DeliveryFact,
  type DeliveryState,
  type WebhooksOptions,
} from 'nestjs-entity-webhooks';
import { Column, DataSource, Entity, PrimaryGeneratedColumn, type DataSourceOptions } from 'typeorm';
import { LOOPBACK } from '../loopback.js';
import { measure, type Measurement } from '../measure.js';
import { FILLING } from '../signed.js';

// A Nest application as a user of the library writes it.

@Webhook()
@Entity('parcel')
class Parcel {
  @PrimaryGeneratedColumn()
  id: number;

  /** What listeners ask for. */
  @Column({ type: 'int' })
  topic: number;

  @Column({ type: 'text' })
  text: string;
}

export interface ApplicationOptions {
  readonly database: DataSourceOptions;
  /** Make the tables: once per database. */
  readonly synchronize?: boolean;
  /** Over the defaults. `security` is set, and the dispatcher waits for {@link start}. */
  readonly webhooks?: WebhooksOptions;
  /** Add an interceptor to the module's `HttpService`, as somebody does who signs for a gateway. */
  readonly isIntercepted?: boolean;
}

let app: INestApplicationContext;

export async function open(options: ApplicationOptions): Promise<void> {
  @Module({
    imports: [
      TypeOrmModule.forRoot({
        ...options.database,
        entities: [Parcel],
        synchronize: options.synchronize ?? false,
        retryAttempts: 0,
      }),
      EventEmitterModule.forRoot(),
      WebhooksModule.forRoot({
        security: LOOPBACK,
        ...options.webhooks,
        dispatcher: { autoStart: false, ...options.webhooks?.dispatcher },
      }),
      WebhooksModule.forFeature([Parcel]),
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

/** Listeners to `url/0`, `url/1`, …, each of which asks for a topic of its own. */
export async function addListeners(url: string, count: number): Promise<void> {
  const listeners = app.get(ListenerService);
  for (let topic = 0; topic < count; topic++) {
    await listeners.create({ entity: Parcel, where: { topic }, url: `${url}/${topic}` });
  }
}

/** Stores events by `save()` of 1,000 entities at a time, whose topics go round. */
export async function fill(count: number, topics: number): Promise<void> {
  const parcels = app.get(DataSource).getRepository(Parcel);
  for (let from = 0; from < count; from += 1_000) {
    const some = Array.from({ length: Math.min(1_000, count - from) }, (_, i) =>
      parcels.create({ topic: (from + i) % topics, text: FILLING }),
    );
    await parcels.save(some);
  }
}

/** Starts the dispatcher and times it until so many deliveries have succeeded and are recorded, then stops it. */
export async function drain(count: number, timeoutMs: number): Promise<Measurement> {
  const dispatcher = app.get(DispatcherService);
  const finished = succeeded(count, timeoutMs);
  try {
    return await measure(count, () => {
      dispatcher.start();
      return finished;
    });
  } finally {
    await dispatcher.stop();
  }
}

/** Settles when so many deliveries have been recorded as succeeded; rejects when one has failed. */
function succeeded(count: number, timeoutMs: number): Promise<void> {
  const emitter = app.get(EventEmitter2);
  return new Promise((resolve, reject) => {
    let left = count;
    const end = (error?: Error): void => {
      clearTimeout(timer);
      emitter.off(WEBHOOK_FACTS.succeeded, onSucceeded);
      emitter.off(WEBHOOK_FACTS.failed, onFailed);
      if (error) reject(error);
      else resolve();
    };
    const onSucceeded = (): void => {
      if (--left === 0) end();
    };
    const onFailed = ({ outcome, status, errorCode }: DeliveryFact): void =>
      end(new Error(`an attempt failed: ${outcome}, ${status ?? errorCode}`));
    const timer = setTimeout(
      () => end(new Error(`${left} of ${count} deliveries had not succeeded after ${timeoutMs} ms`)),
      timeoutMs,
    );
    emitter.on(WEBHOOK_FACTS.succeeded, onSucceeded);
    emitter.on(WEBHOOK_FACTS.failed, onFailed);
  });
}

/** What stands in the tables. */
export async function stored(): Promise<{ deliveries: Record<DeliveryState, number>; attempts: number }> {
  const deliveries = await app.get(DeliveryService).counts();
  const [row] = await app.get(DataSource).query<{ count: unknown }[]>('select count(*) as count from webhook_attempts');
  return { deliveries, attempts: Number(row?.count) };
}

export function close(): Promise<void> {
  return app.close();
}
