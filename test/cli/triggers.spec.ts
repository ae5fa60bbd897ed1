import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DataSource, EntitySchema, type DataSourceOptions } from 'typeorm';
import { webhookEntities, type SupportedDriver } from 'nestjs-entity-webhooks';
import { run } from '../../libs/webhooks/src/cli/program.js';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';

const SCHEMA = {
  name: 'Parcel',
  tableName: 'parcel',
  columns: { id: { type: 'int', primary: true }, name: { type: 'varchar' } },
} as const;

describeDatabases('npx nestjs-entity-webhooks triggers', (database) => {
  let fresh: FreshDatabase;
  let folder: string;
  let file: string;

  beforeAll(async () => {
    fresh = await database.create();
    folder = await mkdtemp(join(tmpdir(), 'webhooks-cli-'));
    file = join(folder, 'data-source.mjs');
    const type = fresh.options.type as SupportedDriver;
    const source = await new DataSource({
      ...fresh.options,
      entities: [new EntitySchema(SCHEMA), ...webhookEntities({ type })],
      synchronize: true,
    } as DataSourceOptions).initialize();
    await source.destroy();
    // `synchronize` would create tables, but the command must only manage triggers.
    await writeFile(
      file,
      `import { DataSource, EntitySchema } from ${JSON.stringify(import.meta.resolve('typeorm'))};
      const Parcel = new EntitySchema(${JSON.stringify(SCHEMA)});
      const Other = new EntitySchema(${JSON.stringify({ ...SCHEMA, name: 'Other', tableName: 'other' })});
      export const dataSource = new DataSource({ ...${JSON.stringify(fresh.options)}, entities: [Parcel, Other], synchronize: true });
      export const webhooks = { entities: [{ entity: Parcel, capture: 'trigger' }] };`,
    );
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await fresh.drop();
  });

  /** Runs the command like a new process: it opens the data source that the run before has destroyed. */
  async function triggers(...args: string[]): Promise<{ code: number; said: string }> {
    const said: string[] = [];
    const say = (text: string) => void said.push(text);
    const notAsked = () => Promise.reject(new Error('nobody is asked'));
    const terminal = { out: say, err: say, draw: say, ask: notAsked };
    const plain = { isTerminal: false, hasColor: false, isInteractive: false };
    const code = await run(['triggers', ...args], { ...terminal, ...plain });
    return { code, said: said.join('\n') };
  }
  const installed = async () => {
    const source = await new DataSource({ ...fresh.options, entities: [] } as DataSourceOptions).initialize();
    await source.query(`DELETE FROM parcel`);
    await source.query(`DELETE FROM webhook_images`);
    await source.query(`INSERT INTO parcel VALUES (1, 'a')`);
    const rows = (await source.query('SELECT table_path FROM webhook_images')) as unknown[];
    await source.destroy();
    return rows.length === 1;
  };

  it('checks, prints and installs missing triggers, once', async () => {
    const missing = await triggers('--check', '-d', file);
    expect(missing).toMatchObject({ code: 1, said: expect.stringMatching(/missing: .* on parcel/) as string });
    const printed = await triggers('--print', '-d', file);
    expect(printed).toMatchObject({ code: 0, said: expect.stringMatching(/CREATE TRIGGER/) as string });
    expect(await installed()).toBe(false);
    expect(await triggers('--install', '-d', file)).toMatchObject({ code: 0 });
    expect(await installed()).toBe(true);
    for (const action of ['--check', '--install', '--print']) {
      expect(await triggers(action, '--data-source', file)).toEqual({
        code: 0,
        said: expect.stringMatching(/The triggers are up to date/) as string,
      });
    }
  });

  it('fails if the DataSource has no entities, because only Nest knows them', async () => {
    const bare = join(folder, 'bare.mjs');
    // The DataSource of an application that relies on `autoLoadEntities: true`.
    const source = (entities: string, more = '') =>
      writeFile(
        bare,
        `import { DataSource, EntitySchema } from ${JSON.stringify(import.meta.resolve('typeorm'))};
        const Parcel = new EntitySchema(${JSON.stringify(SCHEMA)});
        export const dataSource = new DataSource({ ...${JSON.stringify(fresh.options)}, entities: [${entities}] });${more}`,
      );
    await source('');
    for (const action of ['--check', '--install', '--print']) {
      expect(await triggers(action, '-d', bare)).toEqual({
        code: 2,
        said: expect.stringMatching(/has no entity with webhooks.*autoLoadEntities.*entities: \[Order\]/) as string,
      });
    }
    const exporting = join(folder, 'exporting.mjs');
    await source('Parcel', 'export const webhooks = { entities: [{ entity: Parcel, owner: "name" }] };');
    await writeFile(exporting, await readFile(bare));
    expect(await triggers('--check', '-d', exporting)).toMatchObject({
      said: expect.stringMatching(/has capture: 'trigger'\. If WebhooksModule\.forRoot\(\) sets this mode/) as string,
    });
  });

  it('prints the findings and the statements as JSON', async () => {
    const { code, said } = await triggers('--check', '--json', '-d', file);
    expect({ code, found: JSON.parse(said) as unknown }).toEqual({ code: 0, found: [] });
  });

  it('says what is wrong with the arguments', async () => {
    const choose = 'INVALID_ARGUMENT: Give one of --print, --install and --check.';
    expect(await triggers()).toEqual({ code: 2, said: choose });
    expect(await triggers('--print', '--install', '-d', file)).toEqual({ code: 2, said: choose });
    expect(await triggers('--print', '--wrong')).toMatchObject({
      code: 2,
      said: expect.stringMatching(/unknown option '--wrong'/) as string,
    });
    expect(await triggers('--help')).toMatchObject({ code: 0, said: expect.stringMatching(/--check/) as string });
    const empty = join(folder, 'empty.mjs');
    await writeFile(empty, 'export const nothing = 1;');
    expect(await triggers('--check', '-d', empty)).toMatchObject({
      code: 2,
      said: expect.stringMatching(/exports no DataSource/) as string,
    });
  });
});
