import { Module, type DynamicModule } from '@nestjs/common';
import type { WebhooksModuleAsyncOptions, WebhooksModuleOptions } from './options/webhooks-options.js';
import { WebhooksCoreModule } from './webhooks-core.module.js';

/**
 * Sends deliveries in a separate process, without HTTP. Import it instead of `WebhooksModule` and with the same options. The processes
 * that serve requests set `dispatcher: { autoStart: false }`. Any number of workers, on any number of hosts, share the work.
 *
 * A worker needs the data source, but no entity of the application. The exception are entities in trigger mode: a worker converts their
 * images to events, so import `WebhooksModule.forFeature([...])` with them. `EventEmitterModule` is needed only for `@OnEvent()` handlers.
 *
 * If the worker lacks a part or an option that enabled listeners name, it does not start: `WORKER_INCOMPLETE`.
 *
 * @example
 * \@Module({ imports: [TypeOrmModule.forRoot(database), WebhooksWorkerModule.forRoot(webhooks)] })
 * export class WorkerModule {}
 *
 * const worker = await NestFactory.createApplicationContext(WorkerModule);
 * worker.enableShutdownHooks();
 */
@Module({})
export class WebhooksWorkerModule {
  /** Like `WebhooksModule.forRoot()`. */
  static forRoot(options: WebhooksModuleOptions = {}): DynamicModule {
    return { module: WebhooksWorkerModule, imports: [WebhooksCoreModule.forRoot(options, 'worker')] };
  }

  /** Like `WebhooksModule.forRootAsync()`. */
  static forRootAsync(options: WebhooksModuleAsyncOptions): DynamicModule {
    return { module: WebhooksWorkerModule, imports: [WebhooksCoreModule.forRootAsync(options, 'worker')] };
  }
}
