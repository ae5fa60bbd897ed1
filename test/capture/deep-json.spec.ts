import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { Webhook, type Json } from 'nestjs-entity-webhooks';
import { databases, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { storedEvents } from './shop.js';

function nested(levels: number): Json {
  let value: Json = 'core';
  for (let level = 0; level < levels; level++) value = level % 2 ? [value] : { a: value };
  return value;
}

const matrix = databases.flatMap((database) =>
  (['orm', 'trigger'] as const).map((capture) => ({ database, name: database.name, capture })),
);

describe.each(matrix)('JSON of many levels, captured by $capture on $name', ({ database, capture }) => {
  const isPostgres = database.name === 'postgres';

  @Webhook()
  @Entity('deep')
  class Deep {
    @PrimaryColumn({ type: 'int' })
    id: number;

    @Column({ type: 'simple-json', nullable: true })
    text: unknown;

    // The JSON type of MariaDB allows 32 levels.
    @Column({ type: isPostgres ? 'jsonb' : 'simple-json', nullable: true })
    own: unknown;
  }

  let fresh: FreshDatabase;
  let app: TestApp;
  let errors: string[];
  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Deep], webhooks: { capture, publishedTypes: ['x.y'] } });
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });
  beforeEach(async () => {
    ({ errors } = listenToLog());
    await app.dataSource.query('DELETE FROM deep');
    await app.dispatcher.drain();
    for (const table of ['webhook_events', 'webhook_images']) await app.dataSource.query(`DELETE FROM ${table}`);
    errors.length = 0;
  });
  const rows = () => app.dataSource.getRepository(Deep);
  const events = async () => {
    await app.dispatcher.drain();
    return storedEvents(app);
  };

  it('is complete in data and previous at 1,000 levels', async () => {
    const deep = nested(1_000);
    await rows().save({ id: 1, text: deep, own: deep });
    await rows().update(1, { text: [], own: [] } as never);
    const [created, updated] = await events();
    expect(JSON.stringify(created?.data)).toBe(JSON.stringify({ id: 1, text: deep, own: deep }));
    expect(JSON.stringify(updated?.previous)).toBe(JSON.stringify({ text: deep, own: deep }));
  });

  it.each([1_001, 1_500])(
    'is refused at %d levels with the name of the field, and other rows are captured',
    async (levels) => {
      const deep = nested(levels);
      const saving = rows().save({ id: 1, [levels % 2 ? 'text' : 'own']: deep });
      const reason = /Deep\.(?:text|own) cannot be written into an event: it is nested more than 1000 levels deep/;
      if (capture === 'orm') {
        await expect(saving).rejects.toMatchObject({
          code: 'UNSERIALIZABLE_FIELD',
          message: expect.stringMatching(reason) as string,
        });
        expect(await rows().count()).toBe(0);
      } else {
        await saving;
      }
      await rows().save({ id: 2, text: {} });
      expect((await events()).map(({ data }) => data.id)).toEqual([2]);
      if (capture === 'orm') return;
      expect(errors.join('\n')).toMatch(reason);
      const left: { reason: string }[] = await app.dataSource.query('SELECT reason FROM webhook_images');
      expect(left).toEqual([{ reason: expect.stringMatching(reason) as string }]);
    },
  );

  it('that raw SQL wrote with 30,000 levels is refused with the name of the field when its row is written', async () => {
    const runner = app.dataSource.createQueryRunner();
    await runner.query(`INSERT INTO deep (id, text) VALUES (1, '${'['.repeat(30_000)}${']'.repeat(30_000)}')`);
    await runner.release();
    const updating = rows().update(1, { own: {} } as never);
    if (capture === 'orm') await expect(updating).rejects.toMatchObject({ code: 'UNSERIALIZABLE_FIELD' });
    else await updating;
    await rows().save({ id: 2 });
    expect((await events()).map(({ data }) => data.id)).toEqual([2]);
    // One for the insert and one for the update.
    expect(errors).toHaveLength(capture === 'orm' ? 0 : 2);
  });

  it('is refused by publish(), like an object whose toJSON() never ends', async () => {
    class Endless {
      toJSON(): unknown {
        return { next: new Endless() };
      }
    }
    await app.webhooks.publish('x.y', { deep: nested(999) });
    for (const deep of [nested(1_000), nested(20_000), new Endless()]) {
      await expect(app.webhooks.publish('x.y', { deep })).rejects.toMatchObject({ code: 'INVALID_DATA' });
    }
    expect(await storedEvents(app)).toHaveLength(1);
  });
});
