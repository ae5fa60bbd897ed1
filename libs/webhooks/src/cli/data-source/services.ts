import { userInfo } from 'node:os';
import { Module, type DynamicModule, type LoggerService } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { getDataSourceToken } from '@nestjs/typeorm';
import sql from 'sql-template-tag';
import type { DeliveryService } from '../../deliveries/delivery.service.js';
import type { EventService } from '../../deliveries/event.service.js';
import type { TaskService } from '../../deliveries/task.service.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { registeredEntity } from '../../entities/webhook-feature.js';
import { ConfigurationError } from '../../errors.js';
import { textOf } from '../../foreign-text.js';
import { DEFAULT_INSTANCE, registryToken, runtimeToken } from '../../instance.js';
import type { ListenerService } from '../../listeners/listener.service.js';
import type { WebhooksService } from '../../publishing/webhooks.service.js';
import type { SystemService } from '../../system/system.service.js';
import { query } from '../../store/database/script.js';
import { WebhooksModule } from '../../webhooks.module.js';
import type { WebhooksRuntime } from '../../webhooks-runtime.js';
import type { Cli } from '../terminal/cli.js';
import { withDataSource, type LoadedDataSource } from './open-data-source.js';

/** The services of the module, with the data source of a command. */
export interface Services {
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly tasks: TaskService;
  readonly webhooks: WebhooksService;
  readonly events: EventService;
  readonly system: SystemService;
  /** Whether the command has keys that seal secrets. */
  readonly hasKeys: boolean;
  /** @throws ConfigurationError `SEALING_KEYS_MISSING` if the tables have sealed secrets, and the command has no key to seal more */
  readonly assertCanSeal: () => Promise<void>;
}

/** Starts the module without an HTTP server and without a dispatcher, runs `work`, and closes everything. */
export function withServices<T>(
  { terminal }: Pick<Cli, 'terminal'>,
  file: string | undefined,
  work: (services: Services) => Promise<T>,
): Promise<T> {
  return withDataSource(file, async (loaded) => {
    const logger = new CommandLogger(terminal.err);
    const app = await NestFactory.createApplicationContext(moduleOf(loaded), { logger, abortOnError: false });
    try {
      logger.isStarted = true;
      const runtime = app.get<WebhooksRuntime>(runtimeToken(nameOf(loaded)));
      const { webhooks } = runtime;
      const actor = actorOfCommand();
      const events = runtime.events.withActor(actor);
      const tasks = runtime.tasks.withActor(actor);
      const listeners = runtime.listeners.withActor(actor);
      const deliveries = runtime.deliveries.withActor(actor);
      const system = runtime.system.withActor(actor);
      const hasKeys = runtime.sealing.isOn;
      const services = { listeners, deliveries, events, tasks, webhooks, system, hasKeys };
      return await work({ ...services, assertCanSeal: () => assertCanSeal(runtime) });
    } finally {
      await app.close();
    }
  });
}

/** The name for changes of a command in the audit log: `cli:` and the user. */
function actorOfCommand(): string {
  try {
    return `cli:${userInfo().username}`;
  } catch {
    return 'cli'; // the user has no name, as in some containers
  }
}

@Module({})
class CommandModule {}

function nameOf({ options }: LoadedDataSource): string {
  return options.dataSource ?? DEFAULT_INSTANCE;
}

function moduleOf(loaded: LoadedDataSource): DynamicModule {
  const { entities = [], ...options } = loaded.options;
  const name = nameOf(loaded);
  const token = name === DEFAULT_INSTANCE ? getDataSourceToken() : getDataSourceToken(name);
  return {
    module: CommandModule,
    global: true,
    imports: [WebhooksModule.forRoot({ ...options, dispatcher: { ...options.dispatcher, autoStart: false } })],
    providers: [
      { provide: token, useValue: loaded.dataSource },
      { provide: EventEmitter2, useValue: new EventEmitter2() },
      {
        provide: Symbol('nestjs-entity-webhooks:entities'),
        inject: [registryToken(name)],
        useFactory: (registry: EntityRegistry) => {
          registry.register(entities.map(registeredEntity));
          registry.registerDecorated(loaded.dataSource);
        },
      },
    ],
    exports: [token, EventEmitter2],
  };
}

/** Prevents that a command without the keys stores an unsealed secret, which everybody with access to the tables could read. */
async function assertCanSeal({ database, sealing }: WebhooksRuntime): Promise<void> {
  if (sealing.isOn) return;
  const { listeners: l } = database.tables;
  const sealed = await database.single(() =>
    query(sql`select l.${l.$.seq} from ${l.sql} l where l.${l.$.secrets} like ${'%"sealed:%'} limit 1`),
  );
  if (!sealed.length) return;
  throw new ConfigurationError(
    'SEALING_KEYS_MISSING',
    'The secrets in the tables are sealed, but this command has no key, so it would store the new secret unsealed. Export the keys from the data source file: export const webhooks = { secrets: { keys: [{ id, key }] } }.',
  );
}

/**
 * Prints warnings and errors of the module on the standard error, except warnings of the start, which the application's own log contains.
 */
class CommandLogger implements LoggerService {
  isStarted = false;

  constructor(private readonly err: (text: string) => void) {}

  log(): void {
    // The standard output contains only the result of a command.
  }

  warn(message: unknown): void {
    if (this.isStarted) this.err(`warning: ${textOf(message)}`);
  }

  error(message: unknown): void {
    // Nest logs an error of the start and then throws it, so the command prints it only once.
    if (this.isStarted) this.err(`error: ${textOf(message)}`);
  }
}
