import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { compileFunction } from 'node:vm';
import * as common from '@nestjs/common';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { RetrySchedule } from 'nestjs-entity-webhooks';
import * as api from 'nestjs-entity-webhooks/api';
import * as client from 'nestjs-entity-webhooks/client';
import { codeBlock, codeBlocks } from '../support/scratch-project.js';
import { Order, startApiApp } from './api-app.js';

const MODULES: Readonly<Record<string, unknown>> = {
  '@nestjs/common': common,
  'nestjs-entity-webhooks/api': api,
  'nestjs-entity-webhooks/client': client,
};

/** What the TypeScript of docs/api.md exports. */
interface Exported {
  WebhooksAdminModule: object;
  resendFailed: (url: string, token: string) => Promise<number>;
  nextAnswer: (url: string, token: string, listenerId: string) => Promise<number | null>;
  tokenFor: (owner: string, url: string, operatorToken: string) => Promise<string>;
}

async function exportedByPage(): Promise<Exported> {
  const exported = {};
  for (const { language, code } of await codeBlocks('docs/api.md')) {
    if (language !== 'ts') continue;
    const { outputText } = ts.transpileModule(code, {
      compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2023, experimentalDecorators: true },
    });
    const run = compileFunction(outputText, ['require', 'exports']) as (...args: unknown[]) => void;
    run((name: string) => MODULES[name], exported);
  }
  return exported as Exported;
}

class OneAttempt extends RetrySchedule {
  delayMs(): null {
    return null;
  }
}

describe('docs/api.md', () => {
  it('has programs that do what the page says', async () => {
    const { WebhooksAdminModule, nextAnswer, resendFailed, tokenFor } = await exportedByPage();
    expect(Reflect.getMetadata('imports', WebhooksAdminModule)).toMatchObject([{ module: api.WebhooksApiModule }]);

    const isOperator = (token?: string) => token === 'Bearer operator-token';
    const app = await startApiApp({
      webhooks: { parts: { retrySchedule: OneAttempt } },
      api: {
        access: ({ headers }: { headers: { authorization?: string } }) =>
          isOperator(headers.authorization) ? { kind: 'operator' } : null,
      },
    });
    try {
      const url = `${app.origin}/webhooks/v1`;
      const token = await tokenFor('acme', url, 'operator-token');
      expect(await client.createWebhooksClient({ url, token }).getMe()).toMatchObject({ owner: 'acme', can: api.VIEW });

      const listener = await app.listeners.create({ owner: 'acme', events: ['order.*'], url: app.receiver.url });
      app.receiver.respond({ status: 500 });
      await app.dataSource.getRepository(Order).save({ id: 1, customer: 'acme', status: 'new' });
      await app.dispatcher.drain();
      app.receiver.respond({ status: 204 });
      expect(await app.deliveries.counts()).toMatchObject({ exhausted: 1 });
      expect(await resendFailed(url, 'operator-token')).toBe(1);
      await app.dispatcher.drain();
      expect(await app.deliveries.counts()).toMatchObject({ exhausted: 0, succeeded: 1 });

      app.receiver.respond({ status: 202 });
      // A stream begins with what happens from now on.
      app.clock.advance(1_000);
      const answer = nextAnswer(url, token, listener.id);
      await app.dataSource.getRepository(Order).save({ id: 2, customer: 'acme', status: 'new' });
      await app.dispatcher.drain();
      expect(await answer).toBe(202);
    } finally {
      await app.close();
    }
  });
});

describe('the walk of docs/operations.md over the API', () => {
  it('finds a delivery that failed, and sends it again', async () => {
    const app = await startApiApp({ webhooks: { parts: { retrySchedule: OneAttempt } } });
    try {
      const WEBHOOKS_API = `${app.origin}/webhooks/v1`;
      const operator = client.createWebhooksClient({ url: WEBHOOKS_API, headers: { 'x-user': 'operator' } });
      const can = [...api.OPERATE];
      const { token: WEBHOOKS_TOKEN } = await operator.createSession({ body: { kind: 'operator', can } });
      const { id: LISTENER } = await app.listeners.create({
        owner: 'acme',
        events: ['order.*'],
        url: app.receiver.url,
      });
      app.receiver.respond({ status: 500 });
      await app.dataSource.getRepository(Order).save({ id: 1, customer: 'acme', status: 'new' });
      await app.dispatcher.drain();
      app.receiver.respond({ status: 204 });
      const [delivery] = (await app.deliveries.list({ listenerId: LISTENER })).items;
      const DELIVERY = delivery?.id ?? '';
      const env = { ...process.env, WEBHOOKS_API, WEBHOOKS_TOKEN, LISTENER, DELIVERY };
      const script = await codeBlock('docs/operations.md', 'customer-calls');
      const { stdout } = await promisify(execFile)('sh', ['-ec', script], { env });
      expect(stdout).toContain(`"number":1,"outcome":"rejected","status":500`);
      await app.dispatcher.drain();
      expect(await app.deliveries.counts({ listenerId: LISTENER })).toMatchObject({ succeeded: 2, exhausted: 0 });
    } finally {
      await app.close();
    }
  });
});
