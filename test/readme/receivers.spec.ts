// Not English on purpose. cspell:ignore bezahlt
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
import { generateSecret, StandardScheme, Webhook } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { answering, freePort, startProgram, type RunningProgram } from '../support/child-process.js';
import { databases } from '../support/databases.js';
import { codeBlock, createScratchProject, type ScratchProject } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

@Webhook()
@Entity()
class ReceivedOrder {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar' })
  status: string;
}

interface Receiver {
  name: string;
  /** The page in docs/receiving, and the code blocks of that page that are the files of the receiver. */
  page: string;
  files: string[];
  /** The missing program, if the receiver cannot run on this machine. */
  missing: string | null;
  /** The command that starts the receiver after everything was compiled. */
  command(port: number): [command: string, ...args: string[]];
  /** Files that the example needs but does not show. */
  write?(project: ScratchProject): Promise<void>;
  /** Whether the receiver ignores a repeated webhook. */
  isOnceOnly?: boolean;
}

/** A Django project for the view, in one file. */
const DJANGO_PROJECT = `
import os, secrets
from wsgiref.simple_server import make_server
from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY=secrets.token_hex())

from django.core.wsgi import get_wsgi_application
from django.urls import path
import hooks

urlpatterns = [path("hooks", hooks.hooks)]
make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application()).serve_forever()
`;

/** Debian's Python comes first, because another Python in PATH does not see Debian's packages. */
const pythonWith = (module: string) =>
  ['/usr/bin/python3', 'python3'].find((command) => works(command, '-c', `import ${module}`));
const django = pythonWith('django');
const flask = pythonWith('flask');
/** `go` if it is installed. gccgo is smaller, and compiles this program in half a second. */
const goBuild = works('go', 'version') ? 'go build' : works('gccgo', '--version') ? 'gccgo' : null;

const RECEIVERS: Receiver[] = [
  {
    name: 'Nest',
    page: 'nest.md',
    files: ['src/hooks.module.ts', 'src/hooks.controller.ts', 'src/payment.entity.ts', 'src/main.ts'],
    missing: null,
    command: () => [process.execPath, 'dist/main.js'],
    isOnceOnly: true,
  },
  {
    name: 'Express',
    page: 'node.md',
    files: ['src/express-receiver.ts'],
    missing: null,
    command: () => [process.execPath, 'dist/express-receiver.js'],
  },
  {
    name: 'Fastify',
    page: 'node.md',
    files: ['src/fastify-receiver.ts'],
    missing: null,
    command: () => [process.execPath, 'dist/fastify-receiver.js'],
  },
  {
    name: 'plain Node',
    page: 'node.md',
    files: ['node-receiver.mjs'],
    missing: null,
    command: () => [process.execPath, 'node-receiver.mjs'],
  },
  {
    name: 'Django',
    page: 'python.md',
    files: ['hooks.py'],
    missing: django ? null : 'python3 with django (Debian: python3-django)',
    command: () => [django ?? 'python3', 'project.py'],
    write: (project) => project.write('project.py', DJANGO_PROJECT),
  },
  {
    name: 'Flask',
    page: 'python.md',
    files: ['flask_hooks.py'],
    missing: flask ? null : 'python3 with flask (Debian: python3-flask)',
    command: (port) => [flask ?? 'python3', '-m', 'flask', '--app', 'flask_hooks', 'run', '--port', String(port)],
  },
  {
    name: 'PHP',
    page: 'php.md',
    files: ['hooks.php'],
    missing: works('php', '--version') ? null : 'php (Debian: php-cli)',
    command: (port) => ['php', '-S', `127.0.0.1:${port}`, 'hooks.php'],
  },
  {
    name: 'Go',
    page: 'go.md',
    files: ['hooks.go'],
    missing: goBuild ? null : 'go or gccgo (Debian: gccgo)',
    command: () => ['./hooks'],
    write: (project) => project.shell(`${goBuild} -o hooks hooks.go`),
  },
  {
    name: 'Ruby',
    page: 'ruby.md',
    files: ['config.ru'],
    missing: works('rackup', '--version') ? null : 'rackup (Debian: ruby-rack)',
    command: (port) => ['rackup', '--server', 'webrick', '--host', '127.0.0.1', '--port', String(port)],
  },
];

interface StartedReceiver extends Receiver {
  url: string;
  secret: string;
  program: RunningProgram;
}

let project: ScratchProject;
let sender: TestApp;
let dropDatabase: () => Promise<void>;
const started = new Map<string, StartedReceiver>();

beforeAll(async () => {
  project = await createScratchProject();
  const database = await (databases[0] as (typeof databases)[number]).create();
  dropDatabase = database.drop;
  const [app] = await Promise.all([
    startApp({ database: database.options, entities: [ReceivedOrder] }),
    startReceivers(RECEIVERS.filter(({ missing }) => missing === null)),
  ]);
  sender = app;
}, 120_000);

afterAll(async () => {
  await Promise.all([...started.values()].map(({ program }) => program.stop()));
  await sender?.close();
  await dropDatabase?.();
  await project?.remove();
});

/** Starts all receivers in parallel: each interpreter takes a second, and mostly waits for the disk. */
async function startReceivers(receivers: Receiver[]): Promise<void> {
  await Promise.all(
    receivers.flatMap(({ page, files }) =>
      files.map(async (file) => project.write(file, await codeBlock(`docs/receiving/${page}`, file))),
    ),
  );
  await Promise.all([project.compile(), ...receivers.map(({ write }) => write?.(project))]);
  await Promise.all(
    receivers.map(async (receiver) => {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}/hooks`;
      const secret = generateSecret();
      const [command, ...args] = receiver.command(port);
      const program = startProgram(command, args, {
        cwd: project.folder,
        env: { PORT: String(port), WEBHOOK_SECRET: secret, PYTHONDONTWRITEBYTECODE: '1' },
      });
      started.set(receiver.name, { ...receiver, url, secret, program });
      await answering(url, program);
    }),
  );
}

describe.each(RECEIVERS)('the $name receiver of docs/receiving', ({ name, missing }) => {
  if (missing !== null && !process.env['CI']) {
    console.log(`Left out: the ${name} receiver of docs/receiving, for want of ${missing}.`);
    it.skip(`needs ${missing}`);
    return;
  }

  it('accepts webhooks of the library, and no changed ones', async () => {
    expect(missing, 'with CI set every receiver must run').toBeNull();
    const { url, secret, program, isOnceOnly } = started.get(name) as StartedReceiver;
    const request = await isDelivered(url, secret, program);
    await isRefused(url, secret, request);
    await isDeliveredWhileTheSecretRotates(url, secret, program);
    if (isOnceOnly) {
      const id = String(request.headers['webhook-id']);
      expect(program.output().split(id), 'once, although it came twice').toHaveLength(2);
    }
  }, 60_000);
});

describe('nestjs-entity-webhooks/receiver', () => {
  it('loads without any installed package, also without Nest and TypeORM', async () => {
    const alone = await mkdtemp(join(tmpdir(), 'webhooks-alone-'));
    try {
      await cp(join(project.folder, 'node_modules/nestjs-entity-webhooks'), alone, { recursive: true });
      const load = (entry: string) =>
        spawnSync(process.execPath, ['--input-type=module', '--eval', `await import('./dist/${entry}/index.js')`], {
          cwd: alone,
          encoding: 'utf8',
        });
      expect(load('receiver')).toMatchObject({ status: 0, stderr: '' });
      expect(load('receiver/nest').stderr).toContain('@nestjs/common');
    } finally {
      await rm(alone, { recursive: true, force: true });
    }
  });
});

/** @returns the same event as a receiver of the test got it, with the same secret */
async function isDelivered(url: string, secret: string, program: RunningProgram): Promise<ReceivedRequest> {
  const theirs = await sender.listeners.create({ entity: ReceivedOrder, url, secret });
  const ours = await sender.listeners.create({
    entity: ReceivedOrder,
    url: `${sender.receiver.url}?also=${url}`,
    secret,
  });
  await sender.dataSource.getRepository(ReceivedOrder).save({ status: 'bezahlt – 支払済み 🦜' });
  await sender.dispatcher.drain();

  const { items } = await sender.deliveries.list({ listenerId: theirs.id });
  expect(items, program.output()).toMatchObject([{ state: 'succeeded', lastStatus: 204 }]);
  await program.printed('received received_order.created');

  const request = sender.receiver.requests.find((received) => received.url.endsWith(`?also=${url}`));
  await sender.listeners.remove(theirs.id);
  await sender.listeners.remove(ours.id);
  return request as ReceivedRequest;
}

async function isRefused(url: string, secret: string, request: ReceivedRequest): Promise<void> {
  const signed = signatureHeaders(request);
  expect(await post(url, signed, request.rawBody)).toBe(204); // a control: below, only the one difference can be the reason
  const otherBody = Buffer.from(request.rawBody.toString().replace('bezahlt', 'gratis!'));
  const tooOld = Math.floor(Date.now() / 1000) - 400;
  const resigned = (timestamp: number, by: string) => ({
    ...signed,
    'webhook-timestamp': String(timestamp),
    ...new StandardScheme().sign({
      id: signed['webhook-id'] as string,
      timestamp,
      body: request.rawBody,
      secrets: [by],
    }),
  });
  const without = (header: string) => Object.fromEntries(Object.entries(signed).filter(([key]) => key !== header));
  const refused: [what: string, headers: Record<string, string>, body: Buffer][] = [
    ['another body', signed, otherBody],
    ['no body', signed, Buffer.alloc(0)],
    ['another id', { ...signed, 'webhook-id': 'evt_another' }, request.rawBody],
    [
      'another time',
      { ...signed, 'webhook-timestamp': String(Number(signed['webhook-timestamp']) + 1) },
      request.rawBody,
    ],
    ['an old request', resigned(tooOld, secret), request.rawBody],
    ['one from the future', resigned(tooOld + 800, secret), request.rawBody],
    ['no number as time', { ...signed, 'webhook-timestamp': '1e9' }, request.rawBody],
    ['too long a time', { ...signed, 'webhook-timestamp': '9'.repeat(5_000) }, request.rawBody],
    ['another secret', resigned(Math.floor(Date.now() / 1000), generateSecret()), request.rawBody],
    ['a signature of the wrong length', { ...signed, 'webhook-signature': 'v1,short' }, request.rawBody],
    [
      'a signature of random bytes',
      { ...signed, 'webhook-signature': `v1,${randomBytes(32).toString('base64')}` },
      request.rawBody,
    ],
    ['no signature', without('webhook-signature'), request.rawBody],
    ['no id', without('webhook-id'), request.rawBody],
    ['no time', without('webhook-timestamp'), request.rawBody],
  ];
  const answers: Record<string, number> = {};
  for (const [what, headers, body] of refused) answers[what] = await post(url, headers, body);
  expect(answers).toEqual(Object.fromEntries(refused.map(([what]) => [what, 401])));
}

/** Two signatures in one header. The receiver still has the old secret. */
async function isDeliveredWhileTheSecretRotates(url: string, secret: string, program: RunningProgram): Promise<void> {
  const { id } = await sender.listeners.create({ entity: ReceivedOrder, url, secret });
  await sender.listeners.rotateSecret(id);
  await sender.dataSource.getRepository(ReceivedOrder).save({ status: 'new' });
  await sender.dispatcher.drain();
  const { items } = await sender.deliveries.list({ listenerId: id });
  expect(items, program.output()).toMatchObject([{ state: 'succeeded', lastStatus: 204 }]);
  await sender.listeners.remove(id);
}

function signatureHeaders({ headers }: ReceivedRequest): Record<string, string> {
  const names = ['content-type', 'webhook-id', 'webhook-timestamp', 'webhook-signature'];
  return Object.fromEntries(names.map((name) => [name, String(headers[name])]));
}

async function post(url: string, headers: Record<string, string>, body: Buffer): Promise<number> {
  const response = await fetch(url, { method: 'POST', headers, body });
  await response.arrayBuffer();
  return response.status;
}

function works(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}
