import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startProgram } from '../support/child-process.js';
import { codeBlock, createScratchProject, type ScratchProject } from '../support/scratch-project.js';

/** Creates a listener for an owner of each shard, and prints the shard that has it. */
const PROGRAM = `
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { TypeOrmModule } from '@nestjs/typeorm';
import { WebhooksShards } from 'nestjs-entity-webhooks';
import { Order } from './order.entity.js';
import { ShardedModule, Subscriptions } from './sharded.module.js';

const dataSource = (name: string) =>
  TypeOrmModule.forRoot({ name, type: 'better-sqlite3', database: ':memory:', synchronize: true, entities: [Order] });

@Module({ imports: [EventEmitterModule.forRoot(), dataSource('eu'), dataSource('us'), ShardedModule] })
class AppModule {}

const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
const shards = app.get(WebhooksShards);
for (const owner of ['eu-1', 'globex']) {
  // An address needs no DNS, and nothing is sent.
  const { id } = await app.get(Subscriptions).subscribe(owner, 'https://93.184.215.14/');
  for (const name of shards.names) {
    const { items } = await shards.get(name).listeners.list();
    if (items.some((one) => one.id === id)) console.log(owner, name);
  }
}
await app.close();
console.log('closed');
`;

describe('the module of docs/scaling.md with two shards', () => {
  let project: ScratchProject;
  beforeAll(async () => {
    project = await createScratchProject();
    await project.write('src/order.entity.ts', await codeBlock('docs/tour.md', 'src/order.entity.ts'));
    await project.write('src/sharded.module.ts', await codeBlock('docs/scaling.md', 'src/sharded.module.ts'));
    await project.write('src/main.ts', PROGRAM);
    await project.compile();
  }, 120_000);
  afterAll(() => project?.remove());

  it('stores the listener of an owner in the shard of the owner', async () => {
    const program = startProgram(process.execPath, ['dist/main.js'], { cwd: project.folder });
    await program.printed('closed');
    expect(program.output().trim().split('\n')).toEqual(['eu-1 eu', 'globex us', 'closed']);
  });
});
