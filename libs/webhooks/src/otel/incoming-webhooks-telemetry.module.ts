import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Module, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { metrics, trace } from '@opentelemetry/api';
import {
  INCOMING_WEBHOOK_PROCESSING_CHANNEL,
  INCOMING_WEBHOOKS_CHANNEL,
  type IncomingWebhookProcessing,
  type IncomingWebhookReceived,
} from '../receiver/incoming-webhook-channel.js';
import { spanAround } from './processing-spans.js';

/**
 * Counts the webhooks that this process receives through `IncomingWebhooksModule`. The counter is
 * `webhooks.received`, with the source and the result as attributes. The handler of each webhook runs in a span `process order.updated`. The
 * module does not need `WebhooksModule`.
 *
 * @example imports: [IncomingWebhooksModule.forRoot({ … }), IncomingWebhooksTelemetryModule]
 */
@Module({})
export class IncomingWebhooksTelemetryModule implements OnModuleInit, OnApplicationShutdown {
  private end = (): void => {};

  /** @internal */
  onModuleInit(): void {
    const meter = metrics.getMeter('nestjs-entity-webhooks');
    const counter = meter.createCounter('webhooks.received', { unit: '{webhook}', description: 'Webhooks received' });
    const listener = (message: unknown) => {
      const { source, result } = message as IncomingWebhookReceived;
      counter.add(1, { 'webhooks.source': source, 'webhooks.result': result });
    };
    const tracer = trace.getTracer('nestjs-entity-webhooks');
    const around = (message: unknown) => spanAround(tracer, message as IncomingWebhookProcessing);
    subscribe(INCOMING_WEBHOOKS_CHANNEL, listener);
    subscribe(INCOMING_WEBHOOK_PROCESSING_CHANNEL, around);
    this.end = () => {
      unsubscribe(INCOMING_WEBHOOKS_CHANNEL, listener);
      unsubscribe(INCOMING_WEBHOOK_PROCESSING_CHANNEL, around);
    };
  }

  /** @internal */
  onApplicationShutdown(): void {
    this.end();
  }
}
