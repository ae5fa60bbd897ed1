import { Controller, HttpCode, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { DataSource } from 'typeorm';
import { expect, it, onTestFinished } from 'vitest';
import { IncomingWebhooksTelemetryModule } from 'nestjs-entity-webhooks/otel';
import {
  IncomingWebhookMessage,
  IncomingWebhookParam,
  VerifyIncomingWebhook,
} from 'nestjs-entity-webhooks/receiver/nest';
import { startReceiverApp } from '../receiver/receiver-app.js';
import { signedByStandard } from '../receiver/signed-requests.js';
import { databases } from '../support/databases.js';
import { Telemetry } from '../support/telemetry.js';

const TRACEPARENT = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

@Controller()
class BankController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('refund')
  @VerifyIncomingWebhook('bank')
  refund(): never {
    trace.getActiveSpan()?.setAttribute('in.handler', true);
    throw new Error('no refunds');
  }

  @Post('deposit')
  @HttpCode(204)
  @VerifyIncomingWebhook('bank')
  async deposit(@IncomingWebhookParam() webhook: IncomingWebhookMessage): Promise<void> {
    await webhook.processInTransaction(this.dataSource.manager, async () => undefined);
  }
}

it('a receiver counts webhooks that are verified, rejected, and processed before, and handles each in a span', async () => {
  const telemetry = await new Telemetry().start();
  onTestFinished(() => telemetry.stop());
  const fresh = await databases[0]!.create();
  onTestFinished(() => fresh.drop());
  const receiver = await startReceiverApp({
    receiver: { sources: { bank: { secrets: SECRET } }, inbox: {} },
    controllers: [BankController],
    imports: [
      TypeOrmModule.forRoot({ ...fresh.options, synchronize: true, retryAttempts: 0 }),
      IncomingWebhooksTelemetryModule,
    ],
  });
  onTestFinished(() => receiver.close());
  const body = '{"type":"deposit.made","data":{}}';
  const signed = () => signedByStandard(SECRET, body, { at: receiver.clock.now() });
  expect((await receiver.post('/deposit', signed(), body)).status).toBe(204);
  expect((await receiver.post('/deposit', signed(), body)).status).toBe(204);
  expect((await receiver.post('/deposit', signed(), `${body} `)).status).toBe(401);
  const count = (result: string) =>
    telemetry.value('webhooks_received_total', { webhooks_source: 'bank', webhooks_result: result });
  expect((await receiver.post('/refund', { ...signed(), traceparent: TRACEPARENT }, body)).status).toBe(500);
  const [refund] = telemetry.spans.getFinishedSpans().toReversed();
  expect(refund).toMatchObject({
    name: 'process deposit.made',
    kind: SpanKind.CONSUMER,
    parentSpanContext: undefined,
    links: [{ context: { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) } }],
    attributes: {
      'webhooks.source': 'bank',
      'messaging.destination.name': 'deposit.made',
      'in.handler': true,
      'error.type': 'Error',
    },
    status: { code: SpanStatusCode.ERROR },
  });
  const names = telemetry.spans.getFinishedSpans().map(({ name }) => name);
  expect(names).toEqual(Array(3).fill('process deposit.made'));
  expect([await count('verified'), await count('duplicate'), await count('rejected')]).toEqual([3, 1, 1]);
});
