import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { PayloadFormat, SignatureScheme, type WebhooksParts } from 'nestjs-entity-webhooks';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { Parcel } from '../support/dispatching-process.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const MINUTE = 60_000;

class OwnScheme extends SignatureScheme {
  readonly name = 'own';

  sign(): Record<string, string> {
    return { 'x-own': 'signed' };
  }

  verify(): never {
    throw new Error('No receiver of this test verifies.');
  }
}

class OwnFormat extends PayloadFormat {
  readonly name = 'own-xml';
  override readonly contentType = 'application/xml';

  render(): string {
    return '<event/>';
  }
}

// As in a rolling deploy, when one version has a part that the other one does not have.
describeDatabases('a process that lacks a part which a listener or a stored body needs', (database) => {
  let fresh: FreshDatabase;
  let complete: TestApp;
  let lacking: TestApp;
  const errors: string[] = [];

  beforeEach(async () => {
    errors.length = 0;
    vi.spyOn(Logger.prototype, 'error').mockImplementation((message: unknown) => void errors.push(String(message)));
    fresh = await database.reuse();
    complete = await start({ signatureSchemes: [OwnScheme], payloadFormats: [OwnFormat] });
    lacking = await start({});
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await lacking.close();
    await complete.close();
    await fresh.drop();
  });

  const start = (parts: WebhooksParts) =>
    startApp({ database: fresh.options, entities: [Parcel], webhooks: { parts } });
  const save = () => complete.dataSource.getRepository(Parcel).save({ name: 'a' });
  function advance(ms: number): void {
    complete.clock.advance(ms);
    lacking.clock.set(complete.clock.now());
  }

  it('sends nothing in place of the signature, counts no attempt, and leaves the delivery to a process that has the scheme', async () => {
    const { id } = await complete.listeners.create({ events: ['*'], url: complete.receiver.url, schemes: ['own'] });
    await save();
    await lacking.dispatcher.drain();
    advance(MINUTE);
    await lacking.dispatcher.drain();
    expect(complete.receiver.requests).toEqual([]);
    expect(await complete.listeners.get(id)).toMatchObject({ failuresInARow: 0 });
    expect(errors).toEqual([expect.stringMatching(/^UNKNOWN_SCHEME: .*'own'.* same parts\.signatureSchemes\.$/)]);
    advance(MINUTE);
    await complete.dispatcher.drain();
    expect(complete.receiver.requests.map(({ headers }) => headers['x-own'])).toEqual(['signed']);
    const { items } = await complete.deliveries.list();
    expect(items).toMatchObject([{ state: 'succeeded', attemptCount: 1 }]);
  });

  it('does not send a stored body under another content type', async () => {
    await complete.listeners.create({ events: ['*'], url: complete.receiver.url, format: 'own-xml' });
    complete.receiver.failTimes(1);
    await save();
    await complete.dispatcher.drain();
    advance(MINUTE);
    await lacking.dispatcher.drain();
    expect(complete.receiver.requests).toHaveLength(1);
    expect(errors).toEqual([expect.stringMatching(/^UNKNOWN_FORMAT: .*'own-xml'.* same parts\.payloadFormats\.$/)]);
    advance(MINUTE);
    await complete.dispatcher.drain();
    const sent = complete.receiver.requests.map(({ headers, rawBody }) => [headers['content-type'], String(rawBody)]);
    expect(sent).toEqual([
      ['application/xml', '<event/>'],
      ['application/xml', '<event/>'],
    ]);
  });
});
