import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
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
  /** Why it cannot run here, if so. */
  missing: string | null;
  program(project: ScratchProject, port: number): Promise<{ command: string; args: string[] }>;
}

/** The tour's controller in an application of its own. */
const NEST_MAIN = `
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { HooksController } from './hooks.controller.js';

@Module({ controllers: [HooksController] })
class ReceiverModule {}

const app = await NestFactory.create(ReceiverModule, { rawBody: true, logger: false });
await app.listen(Number(process.env.PORT));
`;

/** A Django project around the view, in one file. */
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

const python = ['/usr/bin/python3', 'python3'].find((command) => works(command, '-c', 'import django'));

const RECEIVERS: Receiver[] = [
  {
    name: 'Nest',
    missing: null,
    async program(project) {
      await project.write('src/hooks.controller.ts', await codeBlock('README.md', 'src/hooks.controller.ts'));
      await project.write('src/nest-receiver.ts', NEST_MAIN);
      await project.compile();
      return { command: process.execPath, args: ['dist/nest-receiver.js'] };
    },
  },
  {
    name: 'Express',
    missing: null,
    async program(project) {
      await project.write('src/express-receiver.ts', await codeBlock('README.md', 'src/express-receiver.ts'));
      await project.compile();
      return { command: process.execPath, args: ['dist/express-receiver.js'] };
    },
  },
  {
    name: 'plain Node',
    missing: null,
    async program(project) {
      await project.write('node-receiver.mjs', await codeBlock('README.md', 'node-receiver.mjs'));
      return { command: process.execPath, args: ['node-receiver.mjs'] };
    },
  },
  {
    name: 'Django',
    missing: python ? null : 'python3 with django (Debian: python3-django)',
    async program(project) {
      await project.write('hooks.py', await codeBlock('README.md', 'hooks.py'));
      await project.write('project.py', DJANGO_PROJECT);
      return { command: python ?? 'python3', args: ['project.py'] };
    },
  },
  {
    name: 'PHP',
    missing: works('php', '--version') ? null : 'php (Debian: php-cli)',
    async program(project, port) {
      await project.write('hooks.php', await codeBlock('README.md', 'hooks.php'));
      return { command: 'php', args: ['-S', `127.0.0.1:${port}`, 'hooks.php'] };
    },
  },
];

let project: ScratchProject;
let sender: TestApp;
let dropDatabase: () => Promise<void>;

beforeAll(async () => {
  project = await createScratchProject();
  const database = await (databases[0] as (typeof databases)[number]).create();
  dropDatabase = database.drop;
  sender = await startApp({ database: database.options, entities: [ReceivedOrder] });
}, 120_000);

afterAll(async () => {
  await sender.close();
  await dropDatabase();
  await project.remove();
});

describe.each(RECEIVERS)('the $name receiver of README.md', ({ name, missing, program: programOf }) => {
  if (missing !== null && !process.env['CI']) {
    console.log(`Left out: the ${name} receiver of README.md, for want of ${missing}.`);
    it.skip(`needs ${missing}`);
    return;
  }

  it('accepts what the library sends, and nothing that was tampered with', async () => {
    expect(missing, 'with CI set every receiver must run').toBeNull();
    const port = await freePort();
    const url = `http://127.0.0.1:${port}/hooks`;
    const secret = generateSecret();
    const { command, args } = await programOf(project, port);
    const program = startProgram(command, args, {
      cwd: project.folder,
      env: { PORT: String(port), WEBHOOK_SECRET: secret },
    });
    try {
      await answering(url, program);
      const request = await isDelivered(url, secret, program);
      await isRefused(url, secret, request);
      await isDeliveredWhileTheSecretRotates(url, secret, program);
    } finally {
      await program.stop();
    }
  }, 120_000);
});

/** @returns the same event as a receiver of the test's own got it, under the same secret */
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
  expect(await post(url, signed, request.rawBody)).toBe(204); // so that what differs below is the reason
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
    ['another time', { ...signed, 'webhook-timestamp': String(tooOld + 399) }, request.rawBody],
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

/** Two signatures in one header: the receiver still has the old secret. */
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
