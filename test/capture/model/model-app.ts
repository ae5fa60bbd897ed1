import type { DataSource } from 'typeorm';
import { WebhooksError } from 'nestjs-entity-webhooks';
import { EventWitness } from 'nestjs-entity-webhooks/testing';
import type { FreshDatabase, TestDatabase } from '../../support/databases.js';
import { startApp, type TestApp } from '../../support/webhooks-app.js';
import { familyOf } from '../every-kind.js';
import type { CaptureModeName } from '../operations/index.js';
import { MODEL_TABLES, modelEntities, modelFeatures } from './entities.js';
import { ModelHooks } from './model-hooks.js';
import { leaksTransactions, namesARowTwice, type Program } from './program.js';
import { Player, type ModelClasses } from './run-program.js';

/** The capture options of an application of the model. */
export interface ModelKind {
  readonly database: TestDatabase;
  readonly mode: CaptureModeName;
  readonly coalesce: boolean;
  /**
   * MariaDB rolls a transaction back that meets a row changed since its snapshot (error 1020): the default of newer releases. Set for
   * the driver `mariadb`, and not for `mysql2`, so that both are tried.
   */
  readonly hasSnapshots: boolean;
}

/** The lock timeout. A program that waits longer has caused it itself: its step fails and it continues. */
const LOCK_WAIT_MS = 4_000;
/** Longer than a COMMIT waits for writes that are not awaited. */
const PROGRAM_MS = 25_000;

/** One application on a separate database, for many programs. */
export class ModelApp {
  private constructor(
    private readonly kind: ModelKind,
    private readonly fresh: FreshDatabase,
    private readonly app: TestApp,
    private readonly witness: EventWitness,
    private readonly classes: ModelClasses,
    private readonly hooks: ModelHooks,
  ) {}

  static async start(kind: ModelKind): Promise<ModelApp> {
    const { database, mode, coalesce } = kind;
    const family = familyOf(database);
    const fresh = await database.create();
    const features = modelFeatures(family, coalesce);
    const classes = Object.fromEntries(features.map((one) => [nameOf(one), 'entity' in one ? one.entity : one]));
    const app = await startApp({
      database: { ...fresh.options, ...limits(database) } as never,
      entities: features,
      others: Object.values(modelEntities(family).others),
      webhooks: { capture: mode },
    });
    await setSessions(app.dataSource, kind);
    const witness = await EventWitness.install(app.app);
    const { dataSource } = app;
    const hooks = new ModelHooks();
    // Before the subscribers of this library: if it throws, later subscribers are not called.
    dataSource.subscribers.unshift(hooks);
    await dataSource.query(`INSERT INTO model_buyer (tenant, id) VALUES (1, 1), (1, 2)`);
    return new ModelApp(kind, fresh, app, witness, classes as never, hooks);
  }

  /** The number of changes that the programs have committed so far. A model whose writes all fail would find nothing. */
  changes = 0;

  /** Whether the application must be closed and replaced by a new one. */
  isUnusable = false;

  /** @returns the fault; `null` if every committed change has its event and every event its change */
  async fault(program: Program): Promise<string | null> {
    const wrong = await this.faultOf(program);
    const left = await this.leftBehind();
    const isLeak = leaksTransactions(program);
    this.isUnusable = left !== null || isLeak;
    return wrong ?? (isLeak ? null : left);
  }

  private async faultOf(program: Program): Promise<string | null> {
    await this.prepare(program);
    const player = new Player(this.app.dataSource, this.classes, this.hooks);
    const run = await within(PROGRAM_MS, player.play(program));
    if (run === 'too long') return `The program hangs: it was not over after ${PROGRAM_MS} ms.`;
    try {
      if (this.kind.mode === 'trigger') await this.app.dispatcher.drain();
      this.changes += await this.witness.expectEveryEvent({ mayMerge: namesARowTwice(program) });
    } catch (error) {
      return (error as Error).message;
    }
    const bug = run.errors.find(isFaultOfLibrary) as Error | undefined;
    return bug ? `The library threw ${bug.stack}` : null;
  }

  /** Checks for faults that only the next program would see, too. */
  private async leftBehind(): Promise<string | null> {
    const { dataSource } = this.app;
    try {
      await this.clean();
      if (dataSource.options.type !== 'postgres') return null;
      const open: { query: string }[] = await dataSource.query(
        `SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`,
      );
      const [first] = open;
      return first ? `The program leaves a transaction open, whose last statement was ${first.query}` : null;
    } catch (error) {
      return `The program leaves something behind that holds the tables: ${(error as Error).stack}`;
    }
  }

  async close(): Promise<void> {
    // A program that hangs may still have connections.
    await within(
      10_000,
      this.app.close().catch(() => undefined),
    );
    await this.fresh.drop();
  }

  private async prepare({ given }: Program): Promise<void> {
    const { dataSource, dispatcher } = this.app;
    for (const { entity, row } of given) {
      await dataSource.manager.insert(this.classes[entity], structuredClone(row) as never).catch(() => undefined);
    }
    if (this.kind.mode === 'trigger') await dispatcher.drain();
    await this.forget();
  }

  /** Deletes in one transaction, so that there is one wait for the disk. Deletes of captured tables make images, so images are deleted last. */
  private async clean(): Promise<void> {
    const parent = this.app.dataSource.driver.escape('parentId');
    await this.app.dataSource.transaction(async ({ queryRunner }) => {
      await queryRunner?.query(`UPDATE model_node SET ${parent} = NULL`);
      for (const table of MODEL_TABLES) await queryRunner?.query(`DELETE FROM ${table}`);
    });
    await this.forget();
  }

  private async forget(): Promise<void> {
    await this.app.dataSource.transaction(async ({ queryRunner }) => {
      for (const table of ['webhook_images', 'webhook_events']) await queryRunner?.query(`DELETE FROM ${table}`);
    });
    await this.witness.forget();
  }
}

function nameOf(feature: object): string {
  const entity = (feature as { entity: { name: string } }).entity;
  return entity.name;
}

function limits({ name }: TestDatabase): object {
  switch (name) {
    case 'postgres':
      return { extra: { options: `-c lock_timeout=${LOCK_WAIT_MS} -c deadlock_timeout=50` } };
    case 'sqlite':
      return {};
    default:
      return {};
  }
}

interface MysqlPool {
  on(event: 'connection', listener: (connection: { query(text: string, done: () => void): void }) => void): void;
}

/**
 * Applies to each connection that is opened from now on; the pool has opened one. A server without this setting refuses the statement,
 * which does no harm.
 */
async function setSessions(dataSource: DataSource, { database, hasSnapshots }: ModelKind): Promise<void> {
  const { type } = dataSource.options;
  if (type !== 'mysql' && type !== 'mariadb') return;
  const settings = [
    `innodb_lock_wait_timeout = ${LOCK_WAIT_MS / 1_000}`,
    `innodb_snapshot_isolation = ${hasSnapshots && database.name === 'mariadb' ? 'ON' : 'OFF'}`,
  ];
  const { pool } = dataSource.driver as unknown as { pool: MysqlPool };
  for (const setting of settings) {
    const statement = `SET SESSION ${setting}`;
    pool.on('connection', (connection) => connection.query(statement, () => undefined));
    await dataSource.query(statement).catch(() => undefined);
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T | 'too long'> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<'too long'>((resolve) => {
    timer = setTimeout(() => resolve('too long'), ms);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether an error comes neither from a database nor from TypeORM, and is no refusal with a code. */
function isFaultOfLibrary(error: unknown): boolean {
  if (error instanceof WebhooksError || !(error instanceof Error)) return false;
  const isBug = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  const [, frame = ''] = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line) || !line) as string[];
  return isBug && frame.includes('/libs/webhooks/src/');
}
