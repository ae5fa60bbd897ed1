import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebhooksShards, WebhooksShardsModule, type ShardOf } from 'nestjs-entity-webhooks';
import { createPair, PAIRS, startShardedApp, type ShardedApp } from './sharded-app.js';

describe.each(PAIRS)('an application with two shards (%s)', (_, eu, us) => {
  let pair: Awaited<ReturnType<typeof createPair>>;
  let app: ShardedApp;
  beforeAll(async () => {
    pair = await createPair(eu, us);
    app = await startShardedApp({ databases: pair.options });
  });
  afterAll(async () => {
    await app?.close();
    await pair?.drop();
  });

  it('gives the services of an owner, which write to the database of the owner', async () => {
    const { listeners, name } = await app.shards.forOwner('us-1');
    const { id, owner } = await listeners.create({ events: ['order.*'], url: app.receiver.url });
    expect([name, owner]).toEqual(['us', 'us-1']);
    expect((await app.us.listeners.get(id)).owner).toBe('us-1');
    await expect(app.eu.listeners.get(id)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
  });

  it('gives services that see only this owner', async () => {
    const { id } = await app.us.listeners.create({ owner: 'us-2', events: ['order.*'], url: app.receiver.url });
    const { listeners } = await app.shards.forOwner('us-1');
    await expect(listeners.get(id)).rejects.toMatchObject({ code: 'LISTENER_NOT_FOUND' });
  });

  it('sends the events of an owner from the shard of the owner', async () => {
    const { listeners, deliveries } = await app.shards.forOwner('eu-1');
    const { id } = await listeners.create({ events: ['order.*'], url: app.receiver.url });
    await app.eu.order('eu-1');
    // A row in the wrong database becomes an event there, and reaches no listener of the owner.
    await app.us.order('eu-1');
    expect((await deliveries.list({ listenerId: id })).items).toHaveLength(1);
  });

  it('lists its shards, and gives the services of each', () => {
    expect(app.shards.names).toEqual(['eu', 'us']);
    expect(app.shards.get('us').listeners).toBe(app.us.listeners);
  });

  it('refuses an unknown shard, an owner without a shard, and an invalid owner', async () => {
    expect(() => app.shards.get('asia')).toThrow("There is no shard 'asia'. Allowed: 'eu', 'us'.");
    await expect(app.shards.forOwner('nowhere')).rejects.toMatchObject({
      ...{ code: 'OWNER_WITHOUT_SHARD', httpStatus: 404 },
    });
    await expect(app.shards.forOwner('')).rejects.toMatchObject({ code: 'INVALID_OWNER' });
    await expect(app.shards.forOwner(7 as never)).rejects.toMatchObject({ code: 'INVALID_OWNER' });
  });
});

describe('shardOf()', () => {
  const shardsWith = (shardOf: unknown) => new WebhooksShards(new Map([['eu', {} as never]]), shardOf as ShardOf);

  it.each([['asia'], [undefined], [3]])('fails the call if it returns %s', async (returned) => {
    await expect(shardsWith(() => returned).nameFor('acme')).rejects.toMatchObject({ code: 'WRONG_SHARD_OF' });
  });

  it('may return a promise', async () => {
    expect(await shardsWith(() => Promise.resolve('eu')).nameFor('acme')).toBe('eu');
  });
});

describe('WebhooksShardsModule', () => {
  @Injectable()
  class Directory {
    readonly shardOf = (owner: string): string | null => (owner === 'acme' ? 'eu' : null);
  }
  @Module({ providers: [Directory], exports: [Directory] })
  class DirectoryModule {}

  const nowhere = (): null => null;
  it.each<[options: object, key: string]>([
    [{ dataSources: [], shardOf: nowhere }, 'dataSources'],
    [{ dataSources: ['eu', 'eu'], shardOf: nowhere }, 'dataSources'],
    [{ dataSources: ['eu'], shardOf: 'eu' }, 'shardOf'],
    [{ dataSources: ['eu'], shardOf: nowhere, names: [] }, 'names'],
  ])('refuses %j', (options, key) => {
    expect(() => WebhooksShardsModule.forRoot(options as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', details: { key } }),
    );
  });

  it('stops the bootstrap if a data source has no instance', async () => {
    const shards = WebhooksShardsModule.forRoot({ dataSources: ['eu'], shardOf: () => 'eu' });
    await expect(Test.createTestingModule({ imports: [shards] }).compile()).rejects.toMatchObject({
      code: 'WEBHOOKS_MODULE_MISSING',
    });
  });

  it('takes shardOf from a factory with dependencies', async () => {
    const shards = WebhooksShardsModule.forRootAsync({
      dataSources: ['eu'],
      imports: [DirectoryModule],
      inject: [Directory],
      useFactory: (directory: Directory) => directory.shardOf,
    });
    @Module({ providers: [{ provide: 'WebhooksRuntime:eu', useValue: {} }], exports: ['WebhooksRuntime:eu'] })
    class Instance {}
    const module = await Test.createTestingModule({
      imports: [{ ...shards, imports: [...(shards.imports ?? []), Instance] }],
    }).compile();
    expect(await module.get(WebhooksShards).nameFor('acme')).toBe('eu');
    await expect(module.get(WebhooksShards).nameFor('globex')).rejects.toMatchObject({ code: 'OWNER_WITHOUT_SHARD' });
  });
});
