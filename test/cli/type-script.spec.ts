import { execFile } from 'node:child_process';
import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createScratchProject, WORKSPACE, type ScratchProject } from '../support/scratch-project.js';

const LOADERS = ['tsx', 'ts-node'] as const;
type Loader = (typeof LOADERS)[number];

/** @param column the options of the column. Without a type TypeORM needs the metadata of the compiler */
const entity = (column: string) => `
  import { Webhook } from 'nestjs-entity-webhooks';
  import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';
  @Webhook({ fields: ['id', 'status'], capture: 'trigger' })
  @Entity()
  export class Order {
    @PrimaryGeneratedColumn()
    id: number;
    @Column(${column})
    status: string;
  }`;
const dataSource = (file: string) => `
  import { DataSource } from 'typeorm';
  import { Order } from '${file}';
  const database: string = ':memory:';
  export default new DataSource({ type: 'better-sqlite3', database, entities: [Order] });`;

describe('npx nestjs-entity-webhooks triggers with a data source in TypeScript', () => {
  let project: ScratchProject;

  beforeAll(async () => {
    project = await createScratchProject();
    await project.write('src/order.entity.ts', entity(`{ type: 'varchar' }`));
    await project.write('src/data-source.ts', dataSource('./order.entity.js'));
    const compilerOptions = {
      ...{ module: 'commonjs', moduleResolution: 'node10', ignoreDeprecations: '6.0', rootDir: '.', types: ['node'] },
      ...{
        target: 'es2022',
        experimentalDecorators: true,
        emitDecoratorMetadata: true,
        useDefineForClassFields: false,
      },
    };
    for (const [folder, column] of [
      ['commonjs', `{ type: 'varchar' }`],
      ['untyped', ''],
    ] as const) {
      await project.write(`${folder}/package.json`, JSON.stringify({ type: 'commonjs' }));
      await project.write(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions }));
      await project.write(`${folder}/order.entity.ts`, entity(column));
      await project.write(`${folder}/data-source.ts`, dataSource('./order.entity'));
    }
  }, 120_000);
  afterAll(() => project.remove());

  /** Gives the project exactly these loaders. */
  async function withLoaders(...wanted: Loader[]): Promise<void> {
    for (const loader of LOADERS) {
      const link = join(project.folder, 'node_modules', loader);
      await rm(link, { force: true });
      if (wanted.includes(loader)) await symlink(join(WORKSPACE, 'node_modules', loader), link);
    }
  }
  beforeEach(() => withLoaders());

  /** Runs the built program in the folder of the project. */
  function check(file: string): Promise<{ code: number; said: string }> {
    const program = join(project.folder, 'node_modules/nestjs-entity-webhooks/dist/cli/main.js');
    const args = [program, 'triggers', '--check', '-d', file];
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        args,
        { cwd: project.folder, env: { ...process.env, NODE_OPTIONS: '' } },
        (error, out, err) => resolve({ code: Number(error?.code ?? 0), said: out + err }),
      );
    });
  }
  // The output proves that the program has read @Webhook(). With a second copy of the library it would not see @Webhook().
  const missing = {
    code: 1,
    said: expect.stringMatching(/missing: webhook_images_insert_order_\w+ on order/) as string,
  };

  it.each<[string, string, Loader]>([
    ['an ES module', 'src/data-source.ts', 'tsx'],
    ['CommonJS', 'commonjs/data-source.ts', 'tsx'],
    ['CommonJS', 'commonjs/data-source.ts', 'ts-node'],
    ['CommonJS whose columns have no type', 'untyped/data-source.ts', 'ts-node'],
  ])(
    'reads %s (%s) with %s of the project',
    async (_what, file, loader) => {
      await withLoaders(loader);
      expect(await check(file)).toEqual(missing);
    },
    60_000,
  );

  it('prefers ts-node for CommonJS, because its decorator metadata has the types of columns', async () => {
    await withLoaders('tsx');
    expect(await check('untyped/data-source.ts')).toMatchObject({
      code: 2,
      said: expect.stringMatching(/ts-node/) as string,
    });
    await withLoaders('tsx', 'ts-node');
    expect(await check('untyped/data-source.ts')).toEqual(missing);
  }, 60_000);

  it('says what to install if the project has neither loader', async () => {
    for (const file of ['src/data-source.ts', 'commonjs/data-source.ts']) {
      const { code, said } = await check(file);
      expect(code).toBe(2);
      expect(said).toContain(
        `${join(project.folder, file)} is TypeScript, but its project has neither ts-node nor tsx.`,
      );
      expect(said).toContain('npm install --save-dev tsx');
    }
  }, 60_000);

  it('reads compiled CommonJS with a default export', async () => {
    await project.write(
      'commonjs/compiled.js',
      `'use strict';
      Object.defineProperty(exports, '__esModule', { value: true });
      const { DataSource, EntitySchema } = require('typeorm');
      const columns = { id: { type: 'int', primary: true } };
      const Parcel = new EntitySchema({ name: 'Parcel', tableName: 'parcel', columns });
      exports.default = new DataSource({ type: 'better-sqlite3', database: ':memory:', entities: [Parcel] });
      exports.webhooks = { entities: [{ entity: Parcel, capture: 'trigger' }] };`,
    );
    expect(await check('commonjs/compiled.js')).toMatchObject({
      said: expect.stringMatching(/missing: .* on parcel/) as string,
    });
  }, 60_000);

  it('prints the error that the file throws', async () => {
    await withLoaders('tsx');
    await project.write(
      'src/broken.ts',
      `const url: string | undefined = process.env.NO_SUCH;\nif (!url) throw new Error('NO_SUCH is not set');\nexport {};`,
    );
    expect(await check('src/broken.ts')).toEqual({ code: 2, said: 'NO_SUCH is not set\n' });
  }, 60_000);
});
