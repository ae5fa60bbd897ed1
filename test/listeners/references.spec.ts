import { expect, it } from 'vitest';
import { CreateListenerDto, UpdateListenerDto, type CreateListenerInput } from 'nestjs-entity-webhooks';
import { validate } from 'class-validator';
import { describeDatabases } from '../support/databases.js';
import { sharedApp } from '../support/shared-app.js';

const TAKEN = { code: 'EXTERNAL_ID_TAKEN', httpStatus: 409 };

describeDatabases('external id and metadata of a listener', (database) => {
  const app = sharedApp(database, { entities: [] });

  const create = (input: Partial<CreateListenerInput>) =>
    app.listeners.create({ events: ['*'], url: app.receiver.url, ...input });

  it('are shown, listed, changed and removed', async () => {
    const metadata = { plan: 'gold', seats: [1, { of: 'two' }], none: null };
    const { id } = await create({ name: 'Büro ☕', externalId: 'ep_2abc', metadata });
    expect(await app.listeners.get(id)).toMatchObject({ name: 'Büro ☕', externalId: 'ep_2abc', metadata });
    const changed = await app.listeners.update(id, { name: 'Home', metadata: { plan: 'iron' } });
    expect(changed).toMatchObject({ name: 'Home', externalId: 'ep_2abc', metadata: { plan: 'iron' } });
    await app.listeners.update(id, { description: 'untouched' });
    const [listed] = (await app.listeners.list()).items;
    expect(listed).toMatchObject({ name: 'Home', externalId: 'ep_2abc', metadata: { plan: 'iron' } });
    const emptied = await app.listeners.update(id, { name: null, externalId: null, metadata: null });
    expect(emptied).toMatchObject({ name: null, externalId: null, metadata: null });
    expect(await app.listeners.findByExternalId('ep_2abc')).toBeNull();
  });

  it('are unique for each owner, with every character compared', async () => {
    const first = await create({ externalId: 'a', owner: 'acme' });
    for (const [externalId, owner] of [
      ['a', 'ACME'],
      ['A', 'acme'],
      ['a ', 'acme'],
      ['á', 'acme'],
      ['a', undefined],
    ] as const) {
      await create({ externalId, ...(owner === undefined ? {} : { owner }) });
    }
    await expect(create({ externalId: 'a', owner: 'acme' })).rejects.toMatchObject(TAKEN);
    await expect(
      app.listeners.forOwner('acme').create({ events: ['*'], url: app.receiver.url, externalId: 'a' }),
    ).rejects.toMatchObject(TAKEN);
    const other = await create({ externalId: 'b', owner: 'acme' });
    await expect(app.listeners.update(other.id, { externalId: 'a' })).rejects.toMatchObject(TAKEN);
    expect(await app.listeners.update(first.id, { externalId: 'a' })).toMatchObject({ externalId: 'a' });
    expect(await app.listeners.findByExternalId('a', 'acme')).toMatchObject({ id: first.id });
    expect(await app.listeners.forOwner('acme').findByExternalId('a')).toMatchObject({ id: first.id });
    expect(await app.listeners.findByExternalId('a')).toMatchObject({ owner: null });
    expect(await app.listeners.forOwner('nobody').findByExternalId('a')).toBeNull();
  });

  it('can be used again after the listener is removed', async () => {
    const { id } = await create({ externalId: 'a' });
    await app.listeners.remove(id);
    expect(await app.listeners.findByExternalId('a')).toBeNull();
    expect(await create({ externalId: 'a' })).toMatchObject({ externalId: 'a' });
  });

  it('go to one listener if several race for one external id', async () => {
    const racing = await Promise.allSettled(Array.from({ length: 6 }, () => create({ externalId: 'race' })));
    expect(racing.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const one of racing) if (one.status === 'rejected') expect(one.reason).toMatchObject(TAKEN);
    expect((await app.listeners.list()).items).toHaveLength(1);
  });

  const wrong: [what: string, input: object][] = [
    ['an empty external id', { externalId: '' }],
    ['a long external id', { externalId: 'x'.repeat(256) }],
    ['an external id with NUL', { externalId: 'a\0' }],
    ['an external id with half a surrogate pair', { externalId: 'a\ud800' }],
    ['a name with half a surrogate pair', { name: '\udfffb' }],
    ['a description with half a surrogate pair', { description: 'a\ud800b' }],
    ['an external id that is no text', { externalId: 7 }],
    ['metadata that is no object', { metadata: 'gold' }],
    ['metadata that is a list', { metadata: [1] }],
    ['metadata over 4 KiB', { metadata: { text: 'x'.repeat(4_096) } }],
    ['metadata with a bigint', { metadata: { n: 1n } }],
    ['a long name', { name: 'x'.repeat(256) }],
  ];
  it.each(wrong)('are refused with %s', async (_, input) => {
    await expect(create(input)).rejects.toMatchObject({ code: 'INVALID_LISTENER', httpStatus: 400 });
    const { id } = await create({});
    await expect(app.listeners.update(id, input)).rejects.toMatchObject({ code: 'INVALID_LISTENER' });
  });

  it('are not in the DTOs for customers, unlike the name', async () => {
    for (const dto of [CreateListenerDto, UpdateListenerDto]) {
      const body = Object.assign(new dto(), { url: 'https://a.example', name: 'a', externalId: 'b', metadata: {} });
      const errors = await validate(body, { whitelist: true, forbidNonWhitelisted: true });
      expect(errors.map(({ property }) => property).toSorted()).toEqual(['externalId', 'metadata']);
    }
  });
});
