import { Controller, Get, Param, Post, UseFilters } from '@nestjs/common';
import { afterEach, describe, expect, it } from 'vitest';
import { ListenerService, WebhooksExceptionFilter } from 'nestjs-entity-webhooks';
import { createSqlite, type FreshDatabase } from '../support/fresh-database.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Controller('listeners')
@UseFilters(WebhooksExceptionFilter)
class ListenersController {
  constructor(private readonly listeners: ListenerService) {}

  @Post()
  create() {
    return this.listeners.create({ events: ['nope.x'], url: 'https://example.com' });
  }

  @Get(':id')
  get(@Param('id') id: string) {
    if (id === 'broken') throw new Error('nobody may read this');
    return this.listeners.get(id);
  }
}

describe('WebhooksExceptionFilter', () => {
  let fresh: FreshDatabase;
  let app: TestApp;

  afterEach(async () => {
    await app.close();
    await fresh.drop();
  });

  it('answers an error that a customer causes with its status, code and message, and leaves other errors to Nest', async () => {
    fresh = await createSqlite();
    app = await startApp({
      database: fresh.options,
      entities: [],
      controllers: [ListenersController],
      application: { logger: false },
    });
    await app.app.listen(0, '127.0.0.1');
    const url = `${await app.app.getUrl()}/listeners`;
    const ask = async (path: string, method: string) => {
      const response = await fetch(url + path, { method });
      return { status: response.status, body: (await response.json()) as object };
    };
    expect(await ask('', 'POST')).toMatchObject({
      status: 400,
      body: { statusCode: 400, code: 'UNKNOWN_EVENT_TYPE', message: expect.stringContaining('nope.x') as string },
    });
    expect(await ask('/lst_none', 'GET')).toMatchObject({
      status: 404,
      body: { statusCode: 404, code: 'LISTENER_NOT_FOUND' },
    });
    const broken = await ask('/broken', 'GET');
    expect(broken).toMatchObject({ status: 500 });
    expect(JSON.stringify(broken)).not.toContain('nobody may read this');
  });
});
