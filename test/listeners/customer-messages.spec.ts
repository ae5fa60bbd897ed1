// Misspelt on purpose. cspell:ignore evnts Ordr stauts standart Staf fragil externalid
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import {
  BadRequestError,
  ConfigurationError,
  EventService,
  PayloadFormat,
  SystemService,
  TaskService,
  Webhook,
  type CreateListenerInput,
  type DeliveryService,
  type ListenerAuth,
  type ListenerService,
} from 'nestjs-entity-webhooks';
import { certificateFor, type TestCertificate } from '../support/certificates.js';
import { createSqlite, type FreshDatabase } from '../support/fresh-database.js';
import { WORKSPACE } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook({ fields: ['id', 'status', 'meta'], owner: 'customer' })
@Entity()
class Order {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  customer: string;
  @Column({ type: 'varchar' })
  status: string;
  @Column({ type: 'simple-json', nullable: true })
  meta: object | null;
}

/** Declares no owner, so only listeners of the application receive its events. */
@Webhook()
@Entity()
class StaffNote {
  @PrimaryColumn({ type: 'int' })
  id: number;
  @Column({ type: 'varchar' })
  salary: string;
}

/** A format that always throws. */
class Fragile extends PayloadFormat {
  readonly name = 'fragile';
  readonly contentType = 'application/json';
  render(): string {
    throw new Error('the template of the application is broken');
  }
}

/** Names that customers must not read: options, classes and decorators of the application. */
const OF_THE_APPLICATION =
  /forRoot|forFeature|WebhooksModule|TypeORM|@Webhook|EVERY_OWNER|\boptions?\b|application|data source|\b(?:security|handshake|limits|customers|secrets|dispatcher|parts|payload)\.[a-z]|allowHttp|allowedAddresses|allowedPorts|publishedTypes/i;

/** One customer, with the owner-bound services. */
interface Customer {
  listeners: ListenerService;
  deliveries: DeliveryService;
  events: EventService;
  tasks: TaskService;
  system: SystemService;
  /** Saves an order of the customer. @returns the id of its event */
  order(): Promise<string>;
  /** Creates a listener. @returns its id */
  listen(more?: Partial<CreateListenerInput>): Promise<string>;
  /** Creates a listener and sends a test event to it. */
  sent(more?: Partial<CreateListenerInput>): Promise<{ listenerId: string; deliveryId: string }>;
}

describe('an error that a customer causes', () => {
  let fresh: [FreshDatabase, FreshDatabase];
  /** May send to loopback addresses and `http:` URLs. */
  let app: TestApp;
  /** Has the default security, a handshake and one allowed port. */
  let strict: TestApp;
  let mine: TestCertificate;
  let other: TestCertificate;

  beforeAll(async () => {
    fresh = [await createSqlite(), await createSqlite()];
    [mine, other] = await Promise.all([certificateFor('mine.test'), certificateFor('other.test')]);
    const entities = [Order, StaffNote];
    app = await startApp({
      database: fresh[0].options,
      entities,
      webhooks: {
        parts: { payloadFormats: [Fragile] },
        limits: { listenersPerOwner: 2, testsPerMinute: 2, resendsPerMinute: 2, attemptsPerDelivery: 1 },
      },
    });
    strict = await startApp({
      database: fresh[1].options,
      entities,
      webhooks: {
        security: {
          allowedPorts: [443],
          lookup: (_name, _options, answer) => (answer as (...args: unknown[]) => void)(null, '93.184.215.14', 4),
        },
        handshake: { default: 'challenge' },
      },
    });
  });
  afterAll(async () => {
    await app.close();
    await strict.close();
    for (const { drop } of fresh) await drop();
  });

  let orders = 0;
  const boundTo = (
    owner: string,
    { app, dataSource, listeners, deliveries, dispatcher, receiver }: TestApp,
  ): Customer => {
    const bound = listeners.forOwner(owner);
    const listen = async (more: Partial<CreateListenerInput> = {}) =>
      (await bound.create({ events: ['order.*'], url: receiver.url, ...more })).id;
    return {
      listeners: bound,
      deliveries: deliveries.forOwner(owner),
      events: app.get(EventService).forOwner(owner),
      tasks: app.get(TaskService).forOwner(owner),
      system: app.get(SystemService).forOwner(owner),
      async order() {
        await dataSource.getRepository(Order).save({ id: ++orders, customer: owner, status: 'paid', meta: null });
        const [event] = (await app.get(EventService).forOwner(owner).list()).items;
        return event?.id ?? '';
      },
      listen,
      async sent(more) {
        const listenerId = await listen(more);
        const { deliveryId } = await bound.sendTest(listenerId);
        await dispatcher.drain();
        return { listenerId, deliveryId };
      },
    };
  };

  const create = (more: Record<string, unknown>) => (customer: Customer) => customer.listen(more);
  const tls = (of: () => object) => (customer: Customer) =>
    customer.listen({ url: 'https://93.184.215.14/', tls: of() } as never);
  const https = { url: 'https://hooks.example.com/', handshake: 'challenge' };

  /** For each code a call of an owner-bound service that causes it. Those of `STRICT_CAUSES` run in the application `strict`. */
  const CAUSES: Record<string, (customer: Customer) => unknown> = {
    INVALID_LISTENER: create({ evnts: ['order.*'] }),
    UNKNOWN_ENTITY: create({ events: undefined, entity: 'Ordr' }),
    INVALID_EVENT_TYPE: create({ events: ['Order Created'] }),
    UNKNOWN_EVENT_TYPE: create({ events: ['orders.updated'] }),
    UNKNOWN_VERSION: create({ versions: { 'order.updated': 9 } }),
    OWNER_NOT_DECLARED: create({ events: ['staff_note.*'] }),
    INVALID_FILTER: create({ where: { status: { in: [] } } }),
    UNKNOWN_PROPERTY: create({ where: { stauts: 'paid' } }),
    UNKNOWN_OPERATOR: create({ where: { status: { changeTo: 'paid' } } }),
    UNKNOWN_SCHEME: create({ schemes: ['standart'] }),
    UNKNOWN_FORMAT: create({ format: 'cloudevent' }),
    INVALID_URL: create({ url: 'example.com' }),
    URL_CREDENTIALS: create({ url: 'https://user:pass@example.com/' }),
    INVALID_HEADER: create({ headers: { host: 'x' } }),
    INVALID_SECRET: create({ secret: 'mysecret' }),
    INVALID_AUTH: create({ auth: { type: 'digest' } as unknown as ListenerAuth }),
    INVALID_TLS: tls(() => ({ cert: 'x' })),
    INVALID_CERTIFICATE: tls(() => ({ ca: 'x' })),
    INVALID_PRIVATE_KEY: tls(() => ({ cert: mine.cert, key: 'x' })),
    CERTIFICATE_KEY_MISMATCH: tls(() => ({ cert: mine.cert, key: other.key })),
    CERTIFICATE_EXPIRED: async (customer) => {
      app.clock.advance(100 * 24 * 60 * 60_000);
      try {
        await tls(() => mine)(customer);
      } finally {
        app.clock.advance(-100 * 24 * 60 * 60_000);
      }
    },
    TOO_MANY_LISTENERS: async ({ listen }) => {
      for (let n = 0; n < 3; n++) await listen();
    },
    TOO_MANY_TESTS: async ({ listen, listeners }) => {
      const id = await listen();
      for (let n = 0; n < 3; n++) await listeners.sendTest(id);
    },
    TOO_MANY_RESENDS: async ({ deliveries }) => {
      for (let n = 0; n < 3; n++) await deliveries.recover({ since: new Date(0), state: 'exhausted' });
    },
    TOO_MANY_ATTEMPTS: async ({ sent, deliveries }) => deliveries.resend((await sent()).deliveryId),
    TOO_MANY_SECRETS: async ({ listen, listeners }) => {
      const id = await listen();
      for (let n = 0; n < 20; n++) await listeners.rotateSecret(id);
    },
    INVALID_RATE_LIMIT: create({ rateLimit: { limit: 0, perSeconds: 1 } }),
    INVALID_OVERLAP: async ({ listen, listeners }) => listeners.rotateSecret(await listen(), { overlapMs: -1 }),
    INVALID_OWNER: create({ owner: 'somebody else' }),
    LISTENER_NOT_FOUND: ({ listeners }) => listeners.get('lst_none'),
    LISTENER_CHANGED: async ({ listen, listeners }) =>
      listeners.update(await listen(), { name: 'x' }, { ifRevision: 7 }),
    EXTERNAL_ID_TAKEN: async ({ listen }) => {
      for (let n = 0; n < 2; n++) await listen({ externalId: 'x' });
    },
    LISTENER_DISABLED: async ({ listen, listeners }) => {
      const id = await listen();
      await listeners.disable(id);
      await listeners.sendTest(id);
    },
    LISTENER_REMOVED: async ({ sent, listeners, deliveries }) => {
      app.receiver.respond({ status: 410 });
      const { listenerId, deliveryId } = await sent();
      app.receiver.respond({ status: 204 });
      await app.dataSource.query('DELETE FROM webhook_attempts');
      await app.dataSource.query('UPDATE webhook_deliveries SET attempts = 0');
      await listeners.remove(listenerId);
      await deliveries.resend(deliveryId);
    },
    EVENT_NOT_FOUND: ({ events }) => events.get('evt_none'),
    DELIVERY_NOT_FOUND: ({ deliveries }) => deliveries.get('dlv_none'),
    DELIVERY_IN_FLIGHT: async ({ listen, listeners, deliveries }) => {
      let answer: () => void = () => undefined;
      app.receiver.clear();
      app.receiver.respond({ status: 204, delayUntil: new Promise<void>((resolve) => (answer = resolve)) });
      const { deliveryId } = await listeners.sendTest(await listen());
      const draining = app.dispatcher.drain();
      await app.receiver.waitFor(1);
      try {
        await deliveries.resend(deliveryId);
      } finally {
        answer();
        await draining;
        app.receiver.respond({ status: 204 });
      }
    },
    DELIVERY_FINISHED: async ({ sent, deliveries }) => deliveries.discardOne((await sent()).deliveryId),
    DELIVERY_EXISTS: async ({ listen, order, deliveries }) => {
      const listener = await listen();
      const event = await order();
      await app.dispatcher.drain();
      await deliveries.sendEvent(event, listener);
    },
    EVENT_NOT_WANTED: async ({ listen, order, deliveries }) =>
      deliveries.sendEvent(await order(), await listen({ events: ['order.deleted'] })),
    EVENT_NOT_ROUTED: async ({ listen, order, deliveries }) => {
      const listener = await listen();
      await deliveries.sendEvent(await order(), listener);
    },
    EVENT_DAMAGED: async ({ listen, order, deliveries }) => {
      const event = await order();
      await app.dataSource.query(
        `INSERT INTO webhook_damaged (seq, event_at, reason, created_at) SELECT seq, created_at, '', 0 FROM webhook_events WHERE id = '${event}'`,
      );
      await deliveries.sendEvent(event, await listen());
    },
    CONTENT_ERASED: async ({ sent, deliveries }) => {
      const { deliveryId } = await sent();
      await app.app.get(EventService).erase((await deliveries.get(deliveryId)).eventId);
      await deliveries.body(deliveryId);
    },
    TOO_MANY_TASKS: async ({ listen, tasks }) => {
      const listenerId = await listen();
      for (let n = 0; n < 3; n++) {
        app.clock.advance(60_000); // past the limit of resends
        await tasks.create({ kind: 'discard', listenerId, states: ['held'] });
      }
    },
    INVALID_TASK: ({ tasks }) => tasks.create({ kind: 'forget' as never }),
    INVALID_ENTITY_ID: ({ events }) => events.list({ entity: 'Order' }),
    NOT_FOR_OWNERS: ({ events }) => events.erase('evt_none'),
    TASK_NOT_FOUND: ({ tasks }) => tasks.get('tsk_none'),
    TASK_ENDED: async ({ listen, tasks }) => {
      const { id } = await tasks.create({ kind: 'discard', listenerId: await listen(), states: ['held'] });
      await tasks.cancel(id);
      await tasks.cancel(id);
    },
    INVALID_STATS_RANGE: ({ system }) => system.statistics({ since: new Date(1), until: new Date(0) }),
    INVALID_STATS_BY: ({ system }) => system.statistics({ by: 'hour' as never }),
    INVALID_STATUS: ({ deliveries }) => deliveries.list({ status: 42 }),
    INVALID_STATE: ({ deliveries }) => deliveries.list({ state: 'lost' as never }),
    INVALID_TIME: ({ deliveries }) => deliveries.list({ since: new Date(NaN) }),
    INVALID_LIMIT: ({ deliveries }) => deliveries.list({ limit: 0 }),
    INVALID_CURSOR: ({ deliveries }) => deliveries.list({ cursor: 'x' }),
  };
  const STRICT_CAUSES: Record<string, (customer: Customer) => unknown> = {
    URL_SCHEME: create({ url: 'http://example.com/' }),
    URL_ADDRESS_BLOCKED: create({ url: 'https://10.0.0.1/' }),
    URL_PORT_BLOCKED: create({ url: 'https://example.com:8443/' }),
    HANDSHAKE_REQUIRED: create({ ...https, handshake: 'none' }),
    HANDSHAKE_ORIGIN_MISSING: create({ ...https, handshake: 'cloudevents' }),
    LISTENER_PENDING: async ({ listen, listeners }) => listeners.sendTest(await listen(https as never)),
  };

  async function errorOf(code: string): Promise<BadRequestError> {
    const [cause, of] = STRICT_CAUSES[code] ? [STRICT_CAUSES[code], strict] : [CAUSES[code], app];
    try {
      await cause?.(boundTo(code, of));
    } catch (error) {
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({ code });
      return error as BadRequestError;
    }
    throw new Error(`nothing was refused with ${code}`);
  }

  it('has a code of docs/errors.md, and this suite tries every such code', async () => {
    const page = await readFile(join(WORKSPACE, 'docs/errors.md'), 'utf8');
    const [, section = ''] = /^## Errors that a customer can cause\n(.*?)^## /ms.exec(page) ?? [];
    const explained = [...section.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, code = '']) => code);
    expect([...Object.keys(CAUSES), ...Object.keys(STRICT_CAUSES)].toSorted()).toEqual(explained.toSorted());
  });

  it.each([...Object.keys(CAUSES), ...Object.keys(STRICT_CAUSES)])(
    '%s does not mention the application, whose hint is the cause',
    async (code) => {
      const error = await errorOf(code);
      expect(error.message).not.toMatch(OF_THE_APPLICATION);
      expect(error.message.length).toBeLessThan(1_000);
      // An API may answer with the whole error as JSON.
      expect(JSON.stringify(error)).not.toMatch(OF_THE_APPLICATION);
      if (error.cause !== undefined) {
        expect(error.cause).toBeInstanceOf(ConfigurationError);
        expect(error.cause).toMatchObject({ code });
      }
    },
  );

  it('FORMAT_FAILED of resend() does not show the error of the format', async () => {
    const owner = 'format';
    const { id } = await app.listeners.create({
      events: ['order.*'],
      url: app.receiver.url,
      owner,
      format: 'fragile',
    });
    const { deliveryId } = await app.listeners.sendTest(id);
    const error = (await app.deliveries
      .forOwner(owner)
      .resend(deliveryId)
      .catch((caught: unknown) => caught)) as BadRequestError;
    expect(error).toMatchObject({ code: 'FORMAT_FAILED', httpStatus: 409 });
    expect(error.message).not.toMatch(OF_THE_APPLICATION);
    expect(JSON.stringify(error)).not.toMatch(OF_THE_APPLICATION);
  });

  it.each([
    ['UNKNOWN_ENTITY', "There is no entity 'Ordr' with webhooks. Did you mean 'Order'? Known: Order."],
    [
      'UNKNOWN_EVENT_TYPE',
      "'orders.updated' matches no event type. Did you mean 'order.updated'? Known: order.created, order.deleted, order.restored, order.updated.",
    ],
    [
      'UNKNOWN_PROPERTY',
      'Invalid filter: there is no property "stauts" in the payload. Did you mean \'status\'? Known: id, status, meta.',
    ],
    [
      'UNKNOWN_OPERATOR',
      'Invalid filter: there is no operator "changeTo" on "status". Did you mean \'changedTo\'? Known: equals, in,',
    ],
    [
      'UNKNOWN_SCHEME',
      "There is no signature scheme 'standart'. Did you mean 'standard'? Known: standard, standard-v1a,",
    ],
    [
      'UNKNOWN_FORMAT',
      "There is no payload format 'cloudevent'. Did you mean 'cloudevents'? Known: standard, cloudevents, cloudevents-binary.",
    ],
    [
      'INVALID_LISTENER',
      "The listener is not valid: there is no property 'evnts'. Did you mean 'events'? Known: url, ",
    ],
  ])('%s lists known names, and suggests one', async (code, sentence) => {
    const { message } = await errorOf(code);
    expect(message).toContain(sentence);
  });

  it('lists only names that a customer may know', async () => {
    for (const code of Object.keys(CAUSES).filter((one) => one.startsWith('UNKNOWN_'))) {
      const error = await errorOf(code);
      const shown = error.message + JSON.stringify(error);
      expect(shown).not.toMatch(/staff|StaffNote|salary|fragile|privateKey|customer/i);
    }
    // The pattern `*` matches a type that no customer receives. Its properties must not be listed.
    const everything = boundTo('properties', app).listen({ events: ['*'], where: { salary: '1' } });
    await expect(everything).rejects.toMatchObject({
      code: 'UNKNOWN_PROPERTY',
      details: { known: ['id', 'status', 'meta'] },
    });
    await expect(boundTo('keys', app).listen({ unknown: 1 } as never)).rejects.toThrow(
      /handshake, secret\.$|secret, .*\.$/,
    );
  });

  it('lists all names to the application', async () => {
    const { url } = app.receiver;
    await expect(app.listeners.create({ events: ['staff_notes.created'], url })).rejects.toThrow(
      "Did you mean 'staff_note.created'?",
    );
    await expect(app.listeners.create({ entity: 'StafNote', url })).rejects.toThrow('Known: Order, StaffNote.');
    await expect(app.listeners.create({ events: ['*'], url, format: 'fragil' })).rejects.toThrow("mean 'fragile'");
    await expect(app.listeners.create({ events: ['*'], url, externalid: 'x' } as never)).rejects.toThrow(
      "mean 'externalId'",
    );
  });
});
