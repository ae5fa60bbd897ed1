import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';
import { deploy, DEPLOYS, TO_1 } from './deploys.js';

const CREATED = 'shipment.created';

describeDatabases('`versions` of a listener', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  beforeAll(async () => {
    fresh = await database.reuse();
    const note = { type: 'note', version: 2, versions: { 1: TO_1 }, visibility: 'internal' };
    app = await deploy(fresh, DEPLOYS[3], { publishedTypes: [note as never, 'plain'] });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  const create = (input: object) => app.listeners.create({ url: app.receiver.url, events: [CREATED], ...input });
  const pins = (input: object) => create(input).then(({ versions }) => versions);

  it('are the newest ones unless it names others', async () => {
    expect(await pins({})).toEqual({ [CREATED]: 3 });
    expect(await pins({ versions: null })).toEqual({ [CREATED]: 3 });
    expect(await pins({ versions: { [CREATED]: 2 } })).toEqual({ [CREATED]: 2 });
    expect(await pins({ versions: 'latest' })).toBe('latest');
    expect(await pins({ events: ['plain'] })).toEqual({});
    expect(await pins({ events: ['plain'], versions: { plain: 1 } })).toEqual({});
    expect(await pins({ events: [CREATED, 'note'], versions: { [CREATED]: 1 } })).toEqual({ [CREATED]: 1, note: 2 });
  });

  it('do not name an internal type to an owner', async () => {
    expect(await pins({ events: ['*'], owner: 'ann' })).not.toHaveProperty('note');
    await expect(create({ events: ['*'], owner: 'ann', versions: { note: 1 } })).rejects.toMatchObject({
      code: 'UNKNOWN_EVENT_TYPE',
    });
  });

  it.each([
    [{ [CREATED]: 4 }, 'UNKNOWN_VERSION'],
    [{ [CREATED]: 0 }, 'UNKNOWN_VERSION'],
    [{ 'shipment.updated': 1 }, 'UNKNOWN_EVENT_TYPE'],
    [{ constructor: 1 }, 'UNKNOWN_EVENT_TYPE'],
    [{ [CREATED]: '1' }, 'INVALID_LISTENER'],
    [{ [CREATED]: 1.5 }, 'INVALID_LISTENER'],
    ['newest', 'INVALID_LISTENER'],
    [[1], 'INVALID_LISTENER'],
    [3, 'INVALID_LISTENER'],
  ])('that are %j are refused', async (versions, code) => {
    await expect(create({ versions })).rejects.toMatchObject({ code });
  });

  it('change only for the types that an update names, and new types get the newest version', async () => {
    const { id } = await create({ versions: { [CREATED]: 1 } });
    const update = (input: object) => app.listeners.update(id, input).then(({ versions }) => versions);
    expect(await update({ name: 'a' })).toEqual({ [CREATED]: 1 });
    expect(await update({ events: [CREATED, 'shipment.updated'] })).toEqual({ [CREATED]: 1, 'shipment.updated': 3 });
    expect(await update({ versions: { 'shipment.updated': 2 } })).toEqual({ [CREATED]: 1, 'shipment.updated': 2 });
    expect(await update({ versions: 'latest' })).toBe('latest');
    expect(await update({ events: ['shipment.*'] })).toBe('latest');
    expect(await update({ versions: { [CREATED]: 2 } })).toMatchObject({ [CREATED]: 2, 'shipment.updated': 3 });
    expect(await update({ versions: null, events: [CREATED] })).toEqual({ [CREATED]: 3 });
    await expect(update({ versions: { [CREATED]: 9 } })).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' });
  });
});
