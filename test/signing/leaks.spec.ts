import { createPrivateKey } from 'node:crypto';
import { inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { HttpService } from '@nestjs/axios';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { getWebhooksHttpToken, LIFECYCLE_EVENTS, WebhooksError } from 'nestjs-entity-webhooks';
import { runtimeToken } from '../../libs/webhooks/src/instance.js';
import { certificateFor } from '../support/certificates.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const HOUR = 60 * 60 * 1_000;
/** It has the form of base64, so that it can be searched for in the same forms as a secret. */
const PASSWORD = 'pass_c2VjcmV0IHBhc3N3b3JkIG9mIGEgbGlzdGVuZXI=';
const SEALING_KEY = Buffer.from('a sealing key of thirty-two byte', 'latin1');

/**
 * Every text that an application may print or store, in the usual ways. The JSON has no limit of depth. `inspect` repeats an object at each
 * place where it stands: at a depth of 8, the services are 72 MB.
 */
function written(value: unknown, depth = 6): string {
  const seen = new Set<unknown>();
  const json = JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === 'bigint') return String(inner);
    if (typeof inner !== 'object' || inner === null) return inner;
    if (seen.has(inner)) return '…';
    seen.add(inner);
    return Buffer.isBuffer(inner) ? inner.toString('latin1') : inner;
  });
  return `${inspect(value, { depth, showHidden: true, maxArrayLength: 1_000, maxStringLength: null })}\n${json}`;
}

/** A secret as text, and its bytes in every encoding, without the last characters, which depend on the following bytes. */
function forms(secret: string): string[] {
  const key = secret.slice(secret.indexOf('_') + 1);
  const bytes = Buffer.from(key, 'base64');
  const text = Buffer.from(secret);
  return [
    key.slice(0, 20),
    bytes.toString('hex').slice(0, 32),
    bytes.toString('base64url').slice(0, 20),
    text.toString('base64').slice(0, 20),
    text.toString('hex').slice(0, 32),
  ];
}

describeDatabases('a secret', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  const printed: unknown[] = [];

  beforeEach(async () => {
    fresh = await database.reuse();
    printed.length = 0;
    for (const level of ['log', 'warn', 'error', 'debug', 'verbose', 'fatal'] as const) {
      vi.spyOn(Logger.prototype, level).mockImplementation((...said: unknown[]) => void printed.push(said));
    }
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: {
        publishedTypes: [TYPE],
        secrets: { keys: [{ id: 'k1', key: SEALING_KEY.toString('base64') }] },
        dispatcher: { circuit: { failures: 2, cooldownMs: 1_000 } },
      },
    });
    app.app.get(EventEmitter2).onAny((event, value: unknown) => void printed.push([event, value]));
  });
  afterEach(async () => {
    await app.close();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  it('appears in no log, error, event, row or inspected service, whatever happens to its listener', async () => {
    const { listeners, deliveries, receiver, dispatcher, clock, webhooks } = app;
    const thrown: unknown[] = [];
    const failing = async (promise: Promise<unknown>) => {
      const error: unknown = await promise.then(() => undefined).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(WebhooksError);
      thrown.push(error);
    };
    const shown: unknown[] = [];
    const send = async () => {
      await webhooks.publish(TYPE, { n: 1 });
      await dispatcher.drain();
    };

    const schemes = ['standard', 'standard-v1a', 'github', 'stripe', 'google-code'];
    const { secret: first, ...created } = await listeners.create({
      ...{ url: receiver.url, events: [TYPE], schemes },
      auth: { type: 'basic', username: 'shop', password: PASSWORD },
    });
    shown.push(created);
    await send();
    const { secret: second, ...rotated } = await listeners.rotateSecret(created.id);
    shown.push(rotated, await listeners.rotateSigningKey(created.id));
    // Every way to fail: an answer that echoes the request, no answer, an interceptor that throws the request.
    receiver.respond(({ headers, rawBody }) => ({
      status: 500,
      body: JSON.stringify({ headers, body: String(rawBody) }),
    }));
    await send();
    clock.advance(HOUR);
    await dispatcher.drain();
    const http = app.app.get<HttpService>(getWebhooksHttpToken());
    const interceptor = http.axiosRef.interceptors.request.use((config) => {
      throw Object.assign(new Error('an interceptor'), { config });
    });
    clock.advance(HOUR);
    await dispatcher.drain();
    http.axiosRef.interceptors.request.eject(interceptor);
    const auth = { type: 'basic', username: 'shop', password: PASSWORD } as const;
    await failing(listeners.update(created.id, { url: 'http://127.0.0.1:1/' }));
    await listeners.update(created.id, { url: 'http://127.0.0.1:1/', auth });
    clock.advance(2 * HOUR);
    await dispatcher.drain();
    shown.push(await listeners.disable(created.id, 'tired'), await listeners.enable(created.id));
    await listeners.update(created.id, { url: receiver.url, auth });
    receiver.respond({ status: 410 });
    await send();
    shown.push(await listeners.list(), await listeners.get(created.id), await listeners.keySet(created.id));
    await listeners.enable(created.id);
    receiver.respond({ status: 204 });
    for (const { id } of (await deliveries.list({ listenerId: created.id })).items) {
      await deliveries.resend(id).catch((error: unknown) => void thrown.push(error));
      shown.push(await deliveries.get(id));
    }
    shown.push(await listeners.sendTest(created.id));
    await dispatcher.drain();

    // Secrets in a wrong place, or with a typing error.
    const typo = second.replace('whsec_', 'whsec');
    await failing(listeners.rotateSecret(created.id, { secret: typo }));
    await failing(listeners.rotateSigningKey(created.id, { privateKey: second }));
    await failing(listeners.create({ url: receiver.url, events: [TYPE], secret: typo }));
    await failing(
      listeners.create({ url: receiver.url, events: [TYPE], schemes: ['standard-v1a'], privateKey: second }),
    );
    await failing(listeners.create({ url: `https://user:${second}@shop.example/`, events: [TYPE] }));
    await failing(
      listeners.create({ url: receiver.url, events: [TYPE], headers: { [`Authorization: ${second}`]: 'x' } }),
    );
    await failing(
      listeners.create({ url: receiver.url, events: [TYPE], headers: { authorization: `Bearer ${second}\n` } }),
    );
    await failing(listeners.create({ url: receiver.url, events: [TYPE], wrong: second } as never));
    await failing(listeners.update(created.id, { auth: { type: 'bearer', token: `${PASSWORD} ` } }));
    await failing(listeners.update(created.id, { auth: { type: PASSWORD, [PASSWORD]: PASSWORD } as never }));
    // A client certificate and its key: given, shown, used, replaced, refused, and passed to an interceptor that throws it.
    const { cert, key } = await certificateFor('shop');
    const privateKey = createPrivateKey(key).export({ type: 'pkcs8', format: 'der' }).toString('base64');
    // The second line of its PEM: the first contains the name of the curve, which all of these keys share.
    expect(key).toContain(privateKey.slice(64, 84));
    const withTls = await listeners.create({
      url: 'https://127.0.0.1:1/',
      events: [TYPE],
      tls: { cert, key, ca: cert },
    });
    const { secret: third, ...shownWithTls } = withTls;
    shown.push(shownWithTls, await listeners.list(), await listeners.get(withTls.id));
    const throwing = http.axiosRef.interceptors.request.use((config) => {
      // Ignore its headers: the headers of the other listener contain the password.
      if (config.url === 'https://127.0.0.1:1/') printed.push(written(config));
      throw Object.assign(new Error('an interceptor'), { config });
    });
    await send();
    http.axiosRef.interceptors.request.eject(throwing);
    await send();
    await failing(listeners.update(withTls.id, { tls: { cert, key: key.replaceAll('END', 'end') } }));
    await failing(listeners.update(withTls.id, { tls: { cert: key, key } }));
    shown.push(await listeners.update(withTls.id, { tls: { cert, key } }), await listeners.enable(withTls.id));
    await send();
    await listeners.resealSecrets();
    await app.dataSource.query(
      `UPDATE webhook_listeners SET secrets = replace(secrets, 'sealed:k1', 'sealed:k9') WHERE id = '${created.id}'`,
    );
    await send();
    await failing(listeners.rotateSecret(created.id));
    expect(thrown).toHaveLength(14);
    expect(printed.length).toBeGreaterThan(10);
    expect(
      printed.filter((entry) => Array.isArray(entry) && entry[0] === LIFECYCLE_EVENTS.failed).length,
    ).toBeGreaterThan(2);

    const rows: unknown[] = [];
    // Keys that were never shown, from the request to the object that generates them.
    const { database: store, sealing } = app.app.get<{
      database: { tables: Record<string, { metadata: { tablePath: string } }> };
      sealing: { open(...given: string[]): string };
    }>(runtimeToken('default'));
    for (const { metadata } of Object.values(store.tables)) {
      rows.push(await app.dataSource.query(`SELECT * FROM ${metadata.tablePath}`));
    }
    expect(rows.length).toBeGreaterThan(10);
    const stored = [...JSON.stringify(rows).matchAll(/sealed:k9:[\w-]+/g)].map(([text]) => text.replace('k9', 'k1'));
    const opened = stored.map((text) => sealing.open(text, 'secret', created.id));
    expect(opened.filter((key) => key.startsWith('whsk_'))).toHaveLength(2);
    expect(opened).toEqual(expect.arrayContaining([first, second]));

    const services = [
      listeners,
      listeners.forOwner('acme'),
      deliveries,
      dispatcher,
      webhooks,
      app.app.get(runtimeToken('default')),
    ];
    const everything = [printed, thrown, shown, rows, services].map((value) => written(value)).join('\n');
    // The search covers each text: each contains the id.
    expect(everything.split(created.id).length).toBeGreaterThan(50);
    for (const secret of new Set([
      ...opened,
      PASSWORD,
      third,
      privateKey.slice(64),
      `basic_${Buffer.from(`shop:${PASSWORD}`).toString('base64')}`,
      `key_${SEALING_KEY.toString('base64')}`,
    ])) {
      for (const form of forms(secret)) expect(everything.includes(form), `${secret} as ${form}`).toBe(false);
    }
  });
});
