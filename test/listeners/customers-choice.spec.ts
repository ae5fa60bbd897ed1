import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PayloadFormat, SignatureScheme } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

/** A format that shows data that customers must not see. */
class AuditFormat extends PayloadFormat {
  readonly name = 'audit';
  readonly contentType = 'application/json';
  render({ context }: { context: unknown }): string {
    return JSON.stringify({ context });
  }
}

class HouseScheme extends SignatureScheme {
  readonly name = 'house';
  sign(): Record<string, string> {
    return { 'x-house': '1' };
  }
  verify(): boolean {
    return true;
  }
}

describe('formats and schemes of the application', () => {
  let fresh: FreshDatabase;
  let app: TestApp | undefined;
  beforeEach(async () => {
    fresh = await (databases[0] as (typeof databases)[0]).reuse();
  });
  afterEach(async () => {
    await app?.close();
    app = undefined;
    await fresh.drop();
  });

  async function start(customers?: { formats?: string[]; schemes?: string[] }): Promise<TestApp> {
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        parts: { payloadFormats: [AuditFormat], signatureSchemes: [HouseScheme] },
        ...(customers ? { customers } : {}),
      },
    });
    return app;
  }

  it('do not exist for a customer, who may choose the built-in ones', async () => {
    const { listeners, receiver } = await start();
    const mine = listeners.forOwner('acme');
    const input = { events: ['tried'], url: receiver.url };
    const formats = ['standard', 'cloudevents', 'cloudevents-binary'];
    const schemes = ['standard', 'standard-v1a', 'github', 'stripe', 'google-code'];
    const unknownFormat = { code: 'UNKNOWN_FORMAT', details: { known: formats } };
    const unknownScheme = { code: 'UNKNOWN_SCHEME', details: { known: schemes } };
    await expect(mine.create({ ...input, format: 'audit' })).rejects.toMatchObject(unknownFormat);
    await expect(mine.create({ ...input, schemes: ['standard', 'house'] })).rejects.toMatchObject(unknownScheme);
    const { id } = await mine.create({ ...input, schemes, format: 'cloudevents' });
    await expect(mine.update(id, { format: 'audit' })).rejects.toMatchObject(unknownFormat);
    await expect(mine.update(id, { schemes: ['house'] })).rejects.toMatchObject(unknownScheme);
    await expect(listeners.create({ ...input, format: 'nope' })).rejects.toMatchObject({
      details: { known: [...formats, 'audit'] },
    });
  });

  it('stay on a listener if the application has set them', async () => {
    const { listeners, receiver } = await start();
    const mine = listeners.forOwner('acme');
    const given = { format: 'audit', schemes: ['house', 'standard'] };
    const { id } = await listeners.create({ events: ['tried'], url: receiver.url, owner: 'acme', ...given });
    expect(await mine.update(id, { description: 'x' })).toMatchObject(given);
    expect(await mine.update(id, { schemes: ['house'], format: 'standard' })).toMatchObject({ schemes: ['house'] });
    await expect(mine.update(id, { format: 'audit' })).rejects.toMatchObject({ code: 'UNKNOWN_FORMAT' });
  });

  it('are the only choice of customers if the option `customers` names them', async () => {
    const { listeners, receiver } = await start({ formats: ['standard', 'audit'], schemes: ['standard', 'house'] });
    const mine = listeners.forOwner('acme');
    const input = { events: ['tried'], url: receiver.url };
    await mine.create({ ...input, format: 'audit', schemes: ['house'] });
    await expect(mine.create({ ...input, format: 'cloudevents' })).rejects.toMatchObject({ code: 'UNKNOWN_FORMAT' });
    await expect(mine.create({ ...input, schemes: ['stripe'] })).rejects.toMatchObject({ code: 'UNKNOWN_SCHEME' });
    await listeners.create({ ...input, format: 'cloudevents', schemes: ['stripe'], owner: 'acme' });
  });

  it.each([{ formats: ['nope'] }, { schemes: ['nope'] }, { formats: [] }, { schemes: 'standard' as never }])(
    'stop the bootstrap if %o has an unregistered name, or is not a list',
    async (customers) => {
      await expect(start(customers)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    },
  );
});
