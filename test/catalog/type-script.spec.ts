// Misspelt on purpose. cspell:ignore updatd
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Json } from 'nestjs-entity-webhooks';
import { webhookCatalog } from 'nestjs-entity-webhooks/catalog';

import { WORKSPACE } from '../support/scratch-project.js';
import { closedDataSource, shopCatalog } from './shop.js';

/** A receiver that uses the types: with the decorators of this library, and with none of its code. */
const RECEIVER = `
import { Controller, Post } from '@nestjs/common';
import { verifyIncomingWebhook, type TypedIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import { IncomingWebhookParam, VerifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver/nest';
import type { TypedIncomingWebhookMessage } from 'nestjs-entity-webhooks/receiver/nest';
import type { AnyWebhook, OrderWebhookData, WebhookPayloads } from './webhooks.js';

@Controller('hooks')
export class HooksController {
  @Post()
  @VerifyIncomingWebhook('shop')
  async receive(@IncomingWebhookParam() webhook: TypedIncomingWebhookMessage<WebhookPayloads>): Promise<void> {
    const id: string = webhook.id;
    if (webhook.type === 'order.updated') {
      const status: 'new' | 'paid' | undefined = webhook.data.status;
      const before: string | undefined = webhook.previous?.address?.city;
      console.log(id, status, before);
      // @ts-expect-error -- there is no such field
      console.log(webhook.data.state);
    }
    // @ts-expect-error -- there is no such type
    if (webhook.type === 'order.updatd') return;
    // @ts-expect-error -- nothing is updated by this event
    if (webhook.type === 'order.created') console.log(webhook.payload.previous.status);
    await webhook.processInTransaction({} as never, () => undefined);
  }
}

export function read(request: Parameters<typeof verifyIncomingWebhook>[0]): number | undefined {
  const webhook = verifyIncomingWebhook(request) as TypedIncomingWebhook<WebhookPayloads>;
  if (webhook.type !== 'invoice.overdue') return undefined;
  return webhook.data.invoiceId;
}

export function handle(webhook: AnyWebhook): OrderWebhookData | undefined {
  if (webhook.type !== 'order.created') return undefined;
  if (webhook.truncated) {
    // @ts-expect-error -- a truncated payload may lack any field
    const status: string = webhook.data.status;
    console.log(status);
    return undefined;
  }
  const number: string | undefined = webhook.data.shelf?.number;
  // @ts-expect-error -- it may be null
  const total: string = webhook.data.total;
  console.log(number, total, webhook.data.notes?.length, webhook.data.labels[0]);
  return webhook.data;
}
`;

describe('the TypeScript of a catalogue', () => {
  let folder: string;
  // In the workspace, so that packages are found.
  beforeAll(async () => {
    folder = await mkdtemp(join(WORKSPACE, 'test/catalog/tmp-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('compiles with the decorators and functions for receivers, and finds mistakes', async () => {
    const files = { 'webhooks.ts': (await shopCatalog()).typeScript(), 'receiver.ts': RECEIVER };
    expect(await mistakesIn(files)).toEqual([]);
  }, 60_000);

  it('compiles whatever texts and names an application has', async () => {
    const publishedTypes = [
      {
        type: 'odd.names',
        title: "It's */ odd",
        description: 'Two\nlines */ \\',
        schema: {
          type: 'object',
          description: '*/ export {} /*',
          properties: {
            "it's": { type: 'string' },
            'with-dash': { enum: ["'", '"', '\\', '\n', 1, null] },
            'new\nline': { anyOf: [{ type: 'integer' }, { type: 'array', items: {} }] as Json[] },
            any: {},
            map: { type: 'object', additionalProperties: { type: ['boolean', 'null'] } },
          },
        },
      },
    ];
    const catalog = await webhookCatalog(closedDataSource([]), { publishedTypes });
    const use = `import type { OddNamesWebhookData as D } from './webhooks.js';
      export const data: D = { "it's": 'a', 'with-dash': "'", 'new\\nline': [1], any: 1, map: { a: null } };
      // @ts-expect-error -- no member
      export const wrong: D = { 'with-dash': 'x' };`;
    expect(await mistakesIn({ 'webhooks.ts': catalog.typeScript(), 'use.ts': use })).toEqual([]);
  }, 60_000);

  it('is the same text each time', async () => {
    const [first, second] = [await shopCatalog(), await shopCatalog('mysql')];
    expect(second.typeScript()).toBe(first.typeScript());
    expect(first.typeScript()).toContain(
      '   * An order of one customer. Deprecated since 2026-10-01, sent until 2027-04-01. Use order.created.\n   * @deprecated\n',
    );
  });

  async function mistakesIn(files: Readonly<Record<string, string>>): Promise<string[]> {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const { config } = ts.readConfigFile(join(WORKSPACE, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
      config: { compilerOptions: object };
    };
    const { options } = ts.convertCompilerOptionsFromJson({ ...config.compilerOptions, rootDir: '.' }, WORKSPACE);
    const paths = Object.keys(files).map((name) => join(folder, name));
    const program = ts.createProgram(paths, { ...options, noEmit: true });
    return paths.flatMap((path) => {
      const source = program.getSourceFile(path);
      const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
      return found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
    });
  }
});
