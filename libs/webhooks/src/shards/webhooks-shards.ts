import type { DeliveryService } from '../deliveries/delivery.service.js';
import type { EventService } from '../deliveries/event.service.js';
import type { TaskService } from '../deliveries/task.service.js';
import { BadRequestError, ConfigurationError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import type { ListenerService } from '../listeners/listener.service.js';
import { INVALID_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { WebhooksService } from '../publishing/webhooks.service.js';
import { show } from '../show.js';
import type { SystemService } from '../system/system.service.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';

/**
 * Returns the shard of an owner: the name of its data source. `null` if no shard has this owner. It runs for each request of the API, so
 * an answer from a table needs a cache.
 */
export type ShardOf = (owner: string) => string | null | Promise<string | null>;

/** The services of one shard. */
export interface WebhooksShard {
  /** The name of the data source. */
  readonly name: string;
  readonly webhooks: WebhooksService;
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly events: EventService;
  readonly tasks: TaskService;
  readonly system: SystemService;
}

/**
 * Finds the instance of an owner. The owners are divided among several data sources, and each data source has its own instance of the
 * module: a shard. `WebhooksShardsModule` provides this service. See `docs/scaling.md`.
 *
 * @example
 * const { listeners } = await shards.forOwner('acme');
 * await listeners.create({ events: ['order.*'], url });
 */
export class WebhooksShards {
  /** @internal */
  constructor(
    private readonly runtimes: ReadonlyMap<string, WebhooksRuntime>,
    private readonly shardOf: ShardOf,
  ) {}

  /** The names of all shards, in the order of the option `dataSources`. */
  get names(): readonly string[] {
    return [...this.runtimes.keys()];
  }

  /**
   * The services of the shard of this owner (a string). All services except `webhooks` are bound to the owner.
   *
   * @throws BadRequestError `INVALID_OWNER`, `OWNER_WITHOUT_SHARD`; ConfigurationError `WRONG_SHARD_OF`
   */
  async forOwner(owner: string): Promise<WebhooksShard> {
    const { name, webhooks, listeners, deliveries, events, tasks, system } = this.get(await this.nameFor(owner));
    return {
      name,
      webhooks,
      listeners: listeners.forOwner(owner),
      deliveries: deliveries.forOwner(owner),
      events: events.forOwner(owner),
      tasks: tasks.forOwner(owner),
      system: system.forOwner(owner),
    };
  }

  /** The services of one shard, for all owners. @throws BadRequestError `UNKNOWN_SHARD` */
  get(name: string): WebhooksShard {
    const { webhooks, listeners, deliveries, events, tasks, system } = this.runtimeOf(name);
    return { name, webhooks, listeners, deliveries, events, tasks, system };
  }

  /**
   * The name of the shard of an owner.
   *
   * @throws BadRequestError `INVALID_OWNER`, `OWNER_WITHOUT_SHARD`; ConfigurationError `WRONG_SHARD_OF`
   */
  async nameFor(owner: string): Promise<string> {
    if (typeof owner !== 'string' || ownerText(owner) === undefined) {
      throw new BadRequestError('INVALID_OWNER', INVALID_OWNER_MESSAGE);
    }
    const name = await this.shardOf(owner);
    if (name === null) {
      throw new BadRequestError('OWNER_WITHOUT_SHARD', 'No shard has this owner.', { httpStatus: 404 });
    }
    if (this.runtimes.has(name)) return name;
    throw new ConfigurationError(
      'WRONG_SHARD_OF',
      `The option \`shardOf\` of WebhooksShardsModule returned ${show(name)}. Allowed: ${this.list}, or null for an owner without a shard.`,
    );
  }

  /** @internal for the API @throws BadRequestError `UNKNOWN_SHARD` */
  runtimeOf(name: string): WebhooksRuntime {
    const runtime = this.runtimes.get(name);
    if (runtime) return runtime;
    const asked = textOf(name).slice(0, 64);
    throw new BadRequestError('UNKNOWN_SHARD', `There is no shard '${asked}'. Allowed: ${this.list}.`);
  }

  private get list(): string {
    return this.names.map((name) => `'${name}'`).join(', ');
  }
}
