import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  generateSecret,
  type Listener,
  type ListenerTls,
  type SealingKeyOptions,
  type UpdateListenerInput,
} from 'nestjs-entity-webhooks';
import { verifyIncomingWebhook } from 'nestjs-entity-webhooks/receiver';
import {
  authorityOf,
  certificateFor,
  encryptedKey,
  type TestAuthority,
  type TestCertificate,
} from '../support/certificates.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { listenToLog } from '../support/said.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

const TYPE = 'note.sent';
const MINUTE = 60 * 1_000;
const DAY = 24 * 60 * MINUTE;
const K1: SealingKeyOptions = { id: 'k1', key: Buffer.alloc(32, 1) };
const K2: SealingKeyOptions = { id: 'k2', key: Buffer.alloc(32, 2) };
/** Lifetime of the certificates of `certificateFor` and `authorityOf`. */
const EXPIRES_IN = 2 * DAY;

let authority: TestAuthority;
let stranger: TestAuthority;
let ofServer: TestCertificate;
let acme: TestCertificate;
let globex: TestCertificate;

beforeAll(async () => {
  [authority, stranger] = await Promise.all([authorityOf('Private CA'), authorityOf('Strange CA')]);
  [ofServer, acme, globex] = await Promise.all([
    authority.issue('hooks.internal'),
    authority.issue('acme'),
    authority.issue('globex'),
  ]);
});

interface Arrival {
  readonly path: string;
  /** Common name of the client's certificate. */
  readonly client: string | undefined;
  /** Port of the client. Two open connections never have the same port. */
  readonly port: number | undefined;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

/** A server that accepts only certificates of the private authority, unless it is `open`. */
class StrictServer {
  readonly arrivals: Arrival[] = [];
  readonly #server = createServer((incoming, response) => {
    const socket = incoming.socket as TLSSocket;
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => void chunks.push(chunk));
    incoming.on('end', () => {
      const { subject } = socket.getPeerCertificate();
      this.arrivals.push({
        path: incoming.url ?? '',
        client: subject?.CN as string | undefined,
        port: socket.remotePort,
        headers: incoming.headers as Record<string, string>,
        body: Buffer.concat(chunks),
      });
      if (incoming.url === '/token') response.end('{"access_token":"t","token_type":"bearer"}');
      else response.writeHead(204).end();
    });
  });

  async start(options: { open?: boolean } = {}): Promise<this> {
    const { open = false } = options;
    this.#server.setSecureContext({ ...ofServer, ca: authority.cert });
    Object.assign(this.#server, { requestCert: true, rejectUnauthorized: !open });
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  get clients(): (string | undefined)[] {
    return this.arrivals.map(({ client }) => client);
  }
}

const as = ({ cert, key }: TestCertificate): ListenerTls => ({ cert, key, ca: authority.cert });

describeDatabases('tls of a listener', (database) => {
  let fresh: FreshDatabase;
  let app: TestApp;
  let server: StrictServer;

  const start = async (keys: SealingKeyOptions[]) => {
    app = await startApp({
      database: fresh.options,
      entities: [],
      webhooks: { publishedTypes: [TYPE], secrets: { keys } },
    });
  };
  beforeEach(async () => {
    fresh = await database.reuse();
    server = await new StrictServer().start();
    await start([K1]);
  });
  afterEach(async () => {
    await app.close();
    await server.stop();
    await fresh.drop();
    vi.restoreAllMocks();
  });

  const listen = (tls: ListenerTls | undefined, url = server.url) =>
    app.listeners.create({ url, events: [TYPE], ...(tls ? { tls } : {}) });
  const send = async () => {
    await app.webhooks.publish(TYPE, { n: 1 });
    await app.dispatcher.drain();
  };
  const stored = async () => {
    const rows = await app.dataSource.query<{ tls: string }[]>('SELECT tls FROM webhook_listeners');
    return rows.map(({ tls }) => tls);
  };
  const lastAttempt = async (listenerId: string) => {
    const { items } = await app.deliveries.list({ listenerId });
    return (await app.deliveries.get(items[0]?.id ?? '')).attempts.at(-1);
  };

  it('identifies the client of its requests, is shown without the key, and is stored sealed', async () => {
    const { secret, ...created } = await listen(as(acme));
    const of = (pem: string) => {
      const { fingerprint256, validTo } = new X509Certificate(pem);
      return { fingerprint: fingerprint256, expiresAt: new Date(validTo) };
    };
    const tls = {
      certificate: { subject: 'CN=acme', ...of(acme.cert) },
      ca: [{ subject: 'CN=Private CA', ...of(authority.cert) }],
    };
    expect(created.tls).toEqual(tls);
    expect((await app.listeners.get(created.id)).tls).toEqual(tls);
    expect((await app.listeners.list()).items.map((item) => item.tls)).toEqual([tls]);
    expect(
      Math.abs((created.tls as NonNullable<Listener['tls']>).ca[0]!.expiresAt.getTime() - Date.now()),
    ).toBeLessThan(EXPIRES_IN + MINUTE);

    await send();
    const [arrival, ...others] = server.arrivals;
    expect(others).toEqual([]);
    expect(arrival?.client).toBe('acme');
    verifyIncomingWebhook({ headers: arrival!.headers, body: arrival!.body, secrets: [secret] });
    const [text] = await stored();
    expect(text).toMatch(/"sealed":"sealed:k1:/);
    expect(text).not.toContain('BEGIN');
  });

  it('is required by the server: without a certificate, or with one of another authority, the attempt fails', async () => {
    const without = await listen({ ca: authority.cert });
    const other = await listen(as(await stranger.issue('acme')));
    await send();
    expect(server.arrivals).toEqual([]);
    for (const { id } of [without, other]) {
      expect(await lastAttempt(id)).toMatchObject({
        outcome: 'unreachable',
        status: null,
        errorCode: 'TLS_FAILED',
      });
    }
  });

  it.each<[string, () => ListenerTls | undefined, string]>([
    ['public authorities', () => undefined, 'SELF_SIGNED_CERT_IN_CHAIN: self-signed certificate in certificate chain'],
    [
      'another private one',
      () => ({ ...as(acme), ca: stranger.cert }),
      'SELF_SIGNED_CERT_IN_CHAIN: self-signed certificate in certificate chain',
    ],
  ])('does not send to a server whose authority is not its own, but %s', async (_what, tlsOf, detail) => {
    const { id } = await listen(tlsOf());
    await send();
    expect(server.arrivals).toEqual([]);
    expect(await lastAttempt(id)).toMatchObject({
      outcome: 'unreachable',
      errorCode: 'TLS_FAILED',
      errorDetail: expect.stringContaining(detail),
    });
  });

  it('shares no connection with another listener of the same URL', async () => {
    for (const tls of [as(acme), as(globex), as(acme)]) await listen(tls);
    for (let n = 0; n < 4; n++) await send();
    expect(server.arrivals).toHaveLength(12);
    const clientsOf = new Map<number | undefined, Set<string | undefined>>();
    for (const { port, client } of server.arrivals) {
      clientsOf.set(port, (clientsOf.get(port) ?? new Set()).add(client));
    }
    for (const clients of clientsOf.values()) expect(clients.size).toBe(1);
    expect(new Set(server.clients)).toEqual(new Set(['acme', 'globex']));
    // Connections are reused. If each request had its own connection, the check above would prove nothing.
    expect(clientsOf.size).toBeLessThan(server.arrivals.length);
  });

  it('changes with the next request, is kept when other values change, and is removed by null', async () => {
    const { id } = await listen(as(acme));
    await send();
    expect((await app.listeners.update(id, { tls: as(globex) })).tls?.certificate?.subject).toBe('CN=globex');
    await send();
    await app.listeners.update(id, { url: `${server.url}/other`, description: 'x' });
    await send();
    expect(server.clients).toEqual(['acme', 'globex', 'globex']);
    expect((await app.listeners.update(id, { tls: null })).tls).toBeNull();
    expect(await stored()).toEqual([null]);
    await send();
    expect(server.arrivals).toHaveLength(3);
    expect(await lastAttempt(id)).toMatchObject({ errorCode: 'TLS_FAILED' }); // its authority is not a public one
  });

  it('is not sent to another server, and cannot be set to the shown value', async () => {
    const { id, tls } = await listen(as(acme));
    const code = (input: unknown) =>
      app.listeners.update(id, input as UpdateListenerInput).then(
        () => undefined,
        (error: unknown) => (error as { code: string }).code,
      );
    expect(await code({ url: 'https://127.0.0.1:1/' })).toBe('INVALID_TLS');
    expect(await code({ url: app.receiver.url })).toBe('INVALID_TLS');
    expect(await code({ url: app.receiver.url, tls: as(acme) })).toBe('INVALID_TLS'); // not https:
    expect(await code({ tls })).toBe('INVALID_TLS');
    expect(await code({ tls: { ...as(acme), key: globex.key } })).toBe('CERTIFICATE_KEY_MISMATCH');
    await send();
    expect(server.clients).toEqual(['acme']);
    expect(await code({ url: app.receiver.url, tls: null })).toBeUndefined();
    expect(await code({ url: server.url, tls: as(acme) })).toBeUndefined();
    await send();
    expect(server.clients).toEqual(['acme', 'acme']);
  });

  it('is sealed again with the next key, and its deliveries stay pending while a key is missing', async () => {
    const said = listenToLog();
    const { id } = await listen(as(acme));
    const restart = async (...keys: SealingKeyOptions[]) => {
      await app.close();
      await start(keys);
    };
    await restart(K2);
    await app.listeners.rotateSecret(id, { overlapMs: 0 }); // its secret is sealed with the new key, its tls is not
    expect((await app.listeners.resealSecrets()).unreadable).toEqual([id]);
    await send();
    expect(said.errors).toEqual([expect.stringMatching(`^SECRET_KEY_MISSING: A secret of listener ${id} `)]);
    expect(server.arrivals).toEqual([]);

    await restart(K2, K1);
    expect(await app.listeners.resealSecrets()).toEqual({ resealed: 1, unreadable: [] });
    expect((await stored())[0]).toMatch(/"sealed":"sealed:k2:/);
    await restart(K2);
    app.clock.advance(2 * MINUTE);
    await app.dispatcher.drain();
    expect(server.clients).toEqual(['acme']);
  });

  it('cannot be opened in the row of another listener', async () => {
    const said = listenToLog();
    const mine = await listen(undefined, app.receiver.url);
    const theirs = await listen(as(acme));
    const [text] = (await stored()).filter((one) => one !== null);
    await app.dataSource.query(
      `UPDATE webhook_listeners SET tls = '${text}', url = '${server.url}' WHERE id = '${mine.id}'`,
    );
    await app.listeners.remove(theirs.id);
    await send();
    expect(server.arrivals).toEqual([]);
    expect(said.errors).toEqual([expect.stringMatching(`^SECRET_UNREADABLE: A secret of listener ${mine.id} `)]);
  });

  it('is used for the token request of the same server, and of no other server', async () => {
    const elsewhere = await new StrictServer().start({ open: true });
    try {
      const oauth2 = { type: 'oauth2', clientId: 'a', clientSecret: 'b' } as const;
      const of = (tokenUrl: string) =>
        app.listeners.create({
          url: server.url,
          events: [TYPE],
          tls: as(acme),
          auth: { ...oauth2, tokenUrl },
        });
      await of(`${server.url}/token`);
      await send();
      expect(server.arrivals.map(({ path, client }) => [path, client])).toEqual([
        ['/token', 'acme'],
        ['/', 'acme'],
      ]);
      expect(server.arrivals.at(-1)?.headers.authorization).toBe('Bearer t');
      const { id } = await of(`${elsewhere.url}/token`);
      await send();
      // The public authorities do not know that server.
      expect(await lastAttempt(id)).toMatchObject({
        errorCode: 'AUTH_FAILED',
        errorDetail: 'the token endpoint: TLS_FAILED',
      });
      expect(elsewhere.arrivals).toEqual([]);
    } finally {
      await elsewhere.stop();
    }
  });
});

describe('tls of a listener that is rejected', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({
      database: { type: 'better-sqlite3', database: ':memory:' },
      entities: [],
      webhooks: { publishedTypes: [TYPE] },
    });
  });
  afterAll(() => app.close());

  const create = (tls: unknown, url = 'https://127.0.0.1:1/') =>
    app.listeners.create({ url, events: [TYPE], tls: tls as ListenerTls });
  const many = (pem: string, count: number) => pem.repeat(count);
  const pem = (type: 'rsa' | 'x25519' | 'secp256k1', bits = 2048): string => {
    const { privateKey } =
      type === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: bits })
        : type === 'x25519'
          ? generateKeyPairSync('x25519')
          : generateKeyPairSync('ec', { namedCurve: type });
    return String(privateKey.export({ type: 'pkcs8', format: 'pem' }));
  };

  it.each<[string, string, () => unknown]>([
    ['INVALID_LISTENER', 'no object', () => 'cert'],
    ['INVALID_LISTENER', 'a list', () => []],
    ['INVALID_TLS', 'nothing in it', () => ({})],
    ['INVALID_TLS', 'a key that is unknown', () => ({ ...as(acme), rejectUnauthorized: false })],
    ['INVALID_TLS', 'a certificate without a key', () => ({ cert: acme.cert })],
    ['INVALID_TLS', 'a key without a certificate', () => ({ key: acme.key, ca: authority.cert })],
    ['INVALID_TLS', 'a passphrase without a key', () => ({ ca: authority.cert, passphrase: 'x' })],
    ['INVALID_TLS', 'no text', () => ({ ...as(acme), ca: Buffer.from(authority.cert) })],
    ['INVALID_TLS', 'an empty text', () => ({ ...as(acme), ca: '' })],
    ['INVALID_TLS', 'more text than is read', () => ({ ...as(acme), ca: many(authority.cert, 40) })],
    ['INVALID_TLS', 'a key of more text than is read', () => ({ ...as(acme), key: acme.key + ' '.repeat(8192) })],
    ['INVALID_CERTIFICATE', 'no PEM', () => ({ ca: 'an authority' })],
    ['INVALID_CERTIFICATE', 'too many certificates', () => ({ ca: many(authority.cert, 11) })],
    ['INVALID_CERTIFICATE', 'a key in the place of a certificate', () => ({ cert: acme.key, key: acme.key })],
    ['INVALID_CERTIFICATE', 'a key behind a certificate', () => ({ ...as(acme), ca: authority.cert + acme.key })],
    [
      'INVALID_CERTIFICATE',
      'a damaged certificate',
      () => ({ ca: authority.cert.replace(/\n.{8}/, (start) => `${start.slice(0, -4)}AAAA`) }),
    ],
    ['INVALID_PRIVATE_KEY', 'a certificate in the place of a key', () => ({ cert: acme.cert, key: acme.cert })],
    ['INVALID_PRIVATE_KEY', 'two keys', () => ({ cert: acme.cert, key: acme.key + globex.key })],
    [
      'INVALID_PRIVATE_KEY',
      'a damaged key',
      () => ({ cert: acme.cert, key: acme.key.replace(/\n.{8}/, (start) => `${start.slice(0, -4)}AAAA`) }),
    ],
    ['INVALID_PRIVATE_KEY', 'a key that cannot sign', () => ({ cert: acme.cert, key: pem('x25519') })],
    ['INVALID_PRIVATE_KEY', 'a curve that is not for TLS', () => ({ cert: acme.cert, key: pem('secp256k1') })],
    ['INVALID_PRIVATE_KEY', 'a short RSA key', () => ({ cert: acme.cert, key: pem('rsa', 1024) })],
    ['CERTIFICATE_KEY_MISMATCH', 'another key', () => ({ cert: acme.cert, key: globex.key })],
    ['CERTIFICATE_KEY_MISMATCH', 'a key of another kind', () => ({ cert: acme.cert, key: pem('rsa') })],
    [
      'CERTIFICATE_KEY_MISMATCH',
      'the certificates in the wrong order',
      () => ({ cert: authority.cert + acme.cert, key: acme.key }),
    ],
  ])('has the code %s: %s', async (code, _what, tlsOf) => {
    const error: unknown = await create(tlsOf()).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code, httpStatus: 400 });
    const key = acme.key.split('\n')[1] as string;
    expect(JSON.stringify([error, (error as Error).message, (error as Error).stack])).not.toContain(key);
  });

  it('belongs to a URL without TLS', async () => {
    await expect(create(as(acme), app.receiver.url)).rejects.toMatchObject({ code: 'INVALID_TLS' });
  });

  it('has expired, or a certificate of its chain or an authority has', async () => {
    app.clock.advance(EXPIRES_IN + MINUTE);
    try {
      const own = await certificateFor('own');
      for (const tls of [as(acme), { cert: own.cert, key: own.key }, { ca: authority.cert }]) {
        await expect(create(tls)).rejects.toMatchObject({ code: 'CERTIFICATE_EXPIRED' });
      }
    } finally {
      app.clock.advance(-EXPIRES_IN - MINUTE);
    }
    await create(as(acme));
  });

  it('has a key that its passphrase does not open, or that takes too long to open', async () => {
    const passphrase = generateSecret();
    const key = await encryptedKey(acme.key, passphrase);
    expect(key).toContain('BEGIN ENCRYPTED PRIVATE KEY');
    const { tls } = await create({ ...as(acme), key, passphrase });
    expect(tls?.certificate?.subject).toBe('CN=acme');
    const refused = { code: 'INVALID_PRIVATE_KEY' };
    await expect(create({ ...as(acme), key })).rejects.toMatchObject(refused);
    await expect(create({ ...as(acme), key, passphrase: 'another' })).rejects.toMatchObject(refused);
    for (const options of [['-iter', '100001'], ['-scrypt'], ['-v1', 'PBE-SHA1-3DES']]) {
      const slow = await encryptedKey(acme.key, passphrase, ...options);
      await expect(create({ ...as(acme), key: slow, passphrase })).rejects.toMatchObject(refused);
    }
    const just = await encryptedKey(acme.key, passphrase, '-iter', '100000');
    await create({ ...as(acme), key: just, passphrase });
    // The file sets the number of rounds. 8 million rounds would freeze the process for seconds.
    const der = Buffer.from(just.replaceAll(/-.*-|\n/g, ''), 'base64').toString('hex');
    const bomb = Buffer.from(der.replace('02030186a0', '02037fffff'), 'hex').toString('base64');
    const startedAt = performance.now();
    await expect(
      create({
        ...as(acme),
        key: `-----BEGIN ENCRYPTED PRIVATE KEY-----\n${bomb}\n-----END ENCRYPTED PRIVATE KEY-----`,
        passphrase,
      }),
    ).rejects.toMatchObject({ ...refused, message: expect.stringContaining('100,000 iterations') });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });
});
