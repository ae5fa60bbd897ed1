import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type DynamicModule,
  type OnApplicationBootstrap,
  type OnModuleInit,
} from '@nestjs/common';
import { metrics, trace } from '@opentelemetry/api';
import { WEBHOOKS_CHANNELS, type WebhooksInstance, type WebhooksMessages } from '../diagnostics/channels.js';
import { ConfigurationError } from '../errors.js';
import { runtimeToken } from '../instance.js';
import { DATA_SOURCE } from '../module-options.js';
import { flag, group, resolveTable, type OptionTable, type Resolved } from '../option-table.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { AttemptSpans } from './attempt-spans.js';
import { addGauges } from './backlog-gauges.js';
import { BacklogReader } from './backlog-reader.js';
import { createdSpan } from './event-spans.js';
import { Metrics } from './metrics.js';

/** Attributes with many values. Each value makes more time series. */
export interface TelemetryAttributes {
  /** Whether measurements of attempts and listeners have `webhooks.owner`, the owner of the listener. @defaultValue false */
  owner?: boolean;
  /** Whether measurements of attempts and listeners have `webhooks.listener.id`. @defaultValue false */
  listener?: boolean;
}

/** Options of {@link WebhooksTelemetryModule}. */
export interface WebhooksTelemetryOptions {
  /**
   * The instance that is measured. Each instance needs a separate `forRoot`. Give the name of the data source of
   * the instance, as in `WebhooksModule.forRoot({ dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  attributes?: TelemetryAttributes;
}

/** Every option of `WebhooksTelemetryModule.forRoot()`. */
export const TELEMETRY_OPTIONS = {
  dataSource: DATA_SOURCE,
  attributes: group({ owner: flag(false), listener: flag(false) } satisfies OptionTable<TelemetryAttributes>),
} satisfies OptionTable<WebhooksTelemetryOptions>;

const OPTIONS = Symbol('nestjs-entity-webhooks:telemetry-options');
const RUNTIME = Symbol('nestjs-entity-webhooks:telemetry-runtime');
const SCOPE = 'nestjs-entity-webhooks';

/**
 * The runtime in a wrapper object. Without the wrapper, Nest would start and stop the runtime once for each provider
 * that has the runtime as its value.
 */
interface MeasuredRuntime {
  readonly runtime: WebhooksRuntime;
}

/**
 * Measures an instance with OpenTelemetry, with metrics and spans through `@opentelemetry/api`. `docs/observability.md`
 * lists all metrics and spans.
 *
 * The application chooses the SDK and the exporter. Register both before the application starts. Without an SDK,
 * nothing is measured.
 *
 * @example imports: [WebhooksModule.forRoot(), WebhooksTelemetryModule.forRoot()]
 */
@Module({})
export class WebhooksTelemetryModule implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly ends: (() => void)[] = [];
  private readonly reader: BacklogReader;
  private readonly runtime: WebhooksRuntime;

  /** @internal */
  constructor(
    @Inject(OPTIONS) private readonly options: Resolved<typeof TELEMETRY_OPTIONS>,
    @Inject(RUNTIME) { runtime }: MeasuredRuntime,
  ) {
    this.runtime = runtime;
    const { clock, database, diagnostics } = runtime;
    this.reader = new BacklogReader({
      database,
      clock,
      read: () => runtime.backlog(),
      failed: () => {
        if (diagnostics.listens('trouble')) diagnostics.publish('trouble', { work: 'measuring' });
      },
    });
  }

  /** @throws ConfigurationError `INVALID_OPTION` immediately; `WEBHOOKS_MODULE_MISSING` when the application starts */
  static forRoot(options: WebhooksTelemetryOptions = {}): DynamicModule {
    const resolved = resolveTable(TELEMETRY_OPTIONS, options, { name: 'WebhooksTelemetryModule' });
    const { dataSource } = resolved;
    return {
      module: WebhooksTelemetryModule,
      providers: [
        { provide: OPTIONS, useValue: resolved },
        {
          provide: RUNTIME,
          useFactory: (runtime: WebhooksRuntime | undefined): MeasuredRuntime => {
            if (runtime) return { runtime };
            throw new ConfigurationError(
              'WEBHOOKS_MODULE_MISSING',
              `WebhooksTelemetryModule measures the instance of the data source '${dataSource}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot() for this data source in your root module.`,
            );
          },
          inject: [{ token: runtimeToken(dataSource), optional: true }],
        },
      ],
    };
  }

  /**
   * Reads the backlog immediately and not only at the next interval of 15 seconds. @throws errors of the
   * database @internal for tests
   */
  readBacklog(): Promise<void> {
    return this.reader.readOnce();
  }

  /** Subscribes before the application writes anything. @internal */
  onModuleInit(): void {
    const { runtime, reader, ends } = this;
    const { diagnostics, dispatcher } = runtime;
    const common = { 'webhooks.instance': diagnostics.instance.name };
    const meter = metrics.getMeter(SCOPE);
    const tracer = trace.getTracer(SCOPE);
    this.listen(new Metrics(meter, common, this.options.attributes));
    this.listen(new AttemptSpans(tracer, diagnostics.instance.name));
    ends.push(
      addGauges(meter, common, {
        backlog: () => reader.backlog,
        isReading: () => reader.isReading,
        activity: () => dispatcher.activity,
      }),
    );
    diagnostics.traceOf = (type) => createdSpan(tracer, common, type);
    ends.push(() => {
      diagnostics.traceOf = null;
    });
  }

  /** @internal */
  onApplicationBootstrap(): void {
    this.reader.start();
  }

  /** Stops the reader while the database is still open. @internal */
  async beforeApplicationShutdown(): Promise<void> {
    await this.reader.stop();
    for (const end of this.ends.splice(0)) end();
  }

  /** Subscribes to the messages of one instance. Other instances of this process publish on the same channels. */
  private listen(handlers: { readonly [Name in keyof WebhooksMessages]?: (message: WebhooksMessages[Name]) => void }) {
    const { instance } = this.runtime.diagnostics;
    for (const [name, channel] of Object.entries(WEBHOOKS_CHANNELS)) {
      const handle = handlers[name as keyof WebhooksMessages] as ((message: unknown) => void) | undefined;
      if (!handle) continue;
      const listener = (message: unknown) => {
        if ((message as { instance: WebhooksInstance }).instance === instance) handle(message);
      };
      subscribe(channel, listener);
      this.ends.push(() => unsubscribe(channel, listener));
    }
  }
}
