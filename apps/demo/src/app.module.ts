import { type DynamicModule, Module, ValidationPipe } from '@nestjs/common';
import { APP_FILTER, APP_PIPE } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { WebhooksModule } from 'nestjs-entity-webhooks';
import type { DataSourceOptions } from 'typeorm';
import { DashboardModule } from './dashboard/dashboard.module.js';
import { ImpatientSchedule } from './impatient-schedule.js';
import { BadRequestErrorFilter } from './listeners/bad-request-error.filter.js';
import { HealthModule } from './health/health.module.js';
import { ListenersModule } from './listeners/listeners.module.js';
import { MetricsModule } from './metrics/metrics.module.js';
import { OrdersModule } from './orders/orders.module.js';
import { ReceiverModule } from './receiver/receiver.module.js';
import { ShowcaseModule } from './showcase/showcase.module.js';
import { TourModule } from './tour/tour.module.js';
import { UsersModule } from './users/users.module.js';

/** A small shop that sends webhooks about its users and orders. */
@Module({
  imports: [
    EventEmitterModule.forRoot(),
    WebhooksModule.forRoot({
      publishedTypes: [{ type: 'invoice.overdue', fields: ['orderId', 'totalCents'] }],
      // The receiver is this application, on http and loopback. Leave this line out in your application.
      security: { allowedAddresses: ['127.0.0.0/8', '::1/128'], allowHttp: true },
      parts: { retrySchedule: ImpatientSchedule },
    }),
    MetricsModule,
    HealthModule,
    UsersModule,
    OrdersModule,
    ListenersModule,
    ReceiverModule,
    TourModule,
    DashboardModule,
    ShowcaseModule,
  ],
  providers: [
    {
      provide: APP_PIPE,
      useFactory: () => new ValidationPipe({ transform: true, whitelist: true, forbidNonWhitelisted: true }),
    },
    { provide: APP_FILTER, useClass: BadRequestErrorFilter },
  ],
})
export class AppModule {
  /** The shop on a database. */
  static on(database: DataSourceOptions): DynamicModule {
    // Do not retry: the demo has already connected once. If the database is down now, retries for half a minute would only
    // delay the error.
    const connection = TypeOrmModule.forRoot({ ...database, autoLoadEntities: true, retryAttempts: 0 });
    return { module: AppModule, imports: [connection] };
  }
}
