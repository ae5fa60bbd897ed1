import type { DataSource, EntityManager, ObjectLiteral, QueryRunner } from 'typeorm';
import type { EntityName } from './entities.js';
import type { ModelHooks } from './model-hooks.js';
import type { Program, Step, Values } from './program.js';

export type ModelClasses = Readonly<Record<EntityName, new () => ObjectLiteral>>;

/** The result of a run of a program, besides the rows. */
export interface Run {
  /** The errors of all steps, caught or not. */
  readonly errors: readonly unknown[];
}

/** The state of one writer at one step of its program. */
interface Place {
  readonly manager: EntityManager;
  /** The rows that the writer has read and kept. */
  readonly memory: Map<EntityName, ObjectLiteral[]>;
}

type StepOf<D extends Step['do']> = Extract<Step, { do: D }>;
type Write = Exclude<Step, { steps: readonly Step[] }>;

/** Runs programs on one data source. */
export class Player {
  private readonly late: Promise<unknown>[] = [];
  private readonly errors: unknown[] = [];
  /** Whether TypeORM assumes a transaction that the server has rolled back. */
  private readonly lost = new WeakSet<QueryRunner>();

  constructor(
    private readonly dataSource: DataSource,
    private readonly classes: ModelClasses,
    private readonly hooks: ModelHooks,
  ) {}

  /** Waits until every promise has settled, including those that were not awaited. */
  async play({ writers }: Program): Promise<Run> {
    await Promise.all(writers.map((steps) => this.caught(() => this.inTurn(steps, this.newPlace()))));
    for (let n = 0; n < this.late.length; n++) await this.late[n];
    return { errors: this.errors };
  }

  private newPlace(): Place {
    return { manager: this.dataSource.manager, memory: new Map() };
  }

  private async inTurn(steps: readonly Step[], place: Place): Promise<void> {
    for (const step of steps) await this.step(step, place);
  }

  private async caught(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.errors.push(error);
    }
  }

  private async step(step: Step, place: Place): Promise<unknown> {
    switch (step.do) {
      case 'transaction':
        return step.style === 'callback' ? this.byCallback(step, place) : this.byRunner(step, place);
      case 'runner':
        return this.onRunner(place, (inner) => this.inTurn(step.steps, inner));
      case 'between':
        return this.between(step, place);
      case 'swallow':
        for (const inner of step.steps) await this.caught(() => this.step(inner, place));
        return;
      case 'all': {
        const works = step.steps.map((inner) => this.noted(this.step(inner, place)));
        return step.isSettled ? Promise.allSettled(works) : Promise.all(works);
      }
      case 'forget':
        for (const inner of step.steps) this.late.push(this.caught(() => this.step(inner, place)));
        return;
      default:
        return this.writeUnlessLost(step, place);
    }
  }

  /**
   * If an error made the server roll back a transaction and was swallowed, later writes commit statement by statement, without a
   * lock. Other writers may write in between. See docs/capture.md, "Transactions that end without a COMMIT or ROLLBACK of their own".
   */
  private async writeUnlessLost(step: Write, place: Place): Promise<unknown> {
    const { queryRunner } = place.manager;
    if (queryRunner?.isTransactionActive && this.lost.has(queryRunner)) return undefined;
    try {
      return await this.write(step, place);
    } catch (error) {
      if (queryRunner?.isTransactionActive && isRollbackByServer(error)) this.lost.add(queryRunner);
      throw error;
    }
  }

  /** Tracks a promise, so that no work continues after the program and every rejection has a handler. */
  private noted<T>(work: Promise<T>): Promise<T> {
    this.late.push(this.caught(() => work));
    return work;
  }

  private byCallback(step: StepOf<'transaction'>, { manager, memory }: Place): Promise<unknown> {
    const work = async (inner: EntityManager) => {
      await this.inTurn(step.steps, { manager: inner, memory });
      if (step.end === 'rollback') throw new RollBack();
    };
    const done = step.level ? manager.transaction(step.level, work) : manager.transaction(work);
    return done.catch((error: unknown) => {
      if (!(error instanceof RollBack)) throw error;
    });
  }

  private byRunner(step: StepOf<'transaction'>, place: Place): Promise<void> {
    return this.onRunner(place, async (inner) => {
      const { begin, commit, rollback } = this.endsOf(step, inner);
      await begin();
      try {
        await this.inTurn(step.steps, inner);
        // The query runner is released in any case.
        if (step.end === 'commit') await commit();
        if (step.end === 'rollback') await rollback();
      } catch (error) {
        // A failed COMMIT may or may not have ended the transaction.
        await rollback().catch(() => undefined);
        throw error;
      }
    });
  }

  private endsOf({ style, level }: StepOf<'transaction'>, { manager: { queryRunner } }: Place) {
    const runner = queryRunner as NonNullable<typeof queryRunner>;
    const query = (...texts: string[]) => {
      return async () => {
        for (const text of texts) await runner.query(text);
      };
    };
    if (style === 'raw') return { begin: query('BEGIN'), commit: query('COMMIT'), rollback: query('ROLLBACK') };
    if (style === 'script') {
      const [begin, commit, rollback] = ['BEGIN; SELECT 1', 'SELECT 1; COMMIT', 'ROLLBACK; SELECT 1'] as const;
      return { begin: query(begin), commit: query(commit), rollback: query(rollback) };
    }
    if (style === 'autocommit') {
      const back = 'SET autocommit = 1';
      return { begin: query('SET autocommit = 0'), commit: query(back), rollback: query('ROLLBACK', back) };
    }
    return {
      begin: () => runner.startTransaction(level),
      commit: () => runner.commitTransaction(),
      rollback: () => runner.rollbackTransaction(),
    };
  }

  /** In a transaction there is already a query runner, and another one would wait for it. */
  private async onRunner({ manager, memory }: Place, work: (inner: Place) => Promise<void>): Promise<void> {
    if (manager.queryRunner) return work({ manager, memory });
    const runner = this.dataSource.createQueryRunner();
    try {
      await work({ manager: runner.manager, memory });
    } finally {
      await runner.release();
    }
  }

  private between({ steps: [write, ...others] }: StepOf<'between'>, place: Place): Promise<void> {
    return this.onRunner(place, async (inner) => {
      const { queryRunner } = inner.manager;
      const work = () => this.caught(() => this.inTurn(others, this.newPlace()));
      // Inside a transaction the other steps would wait for its locks.
      if (queryRunner && !queryRunner.isTransactionActive) this.hooks.interrupt(queryRunner, work);
      await this.step(write, inner);
    });
  }

  private async write(step: Write, place: Place): Promise<unknown> {
    const { manager, memory } = place;
    if (step.do === 'fail') return manager.query('SELECT * FROM nothing');
    if (step.do === 'sql') return manager.query(step.text);
    const target = this.classes[step.entity];
    switch (step.do) {
      case 'save':
        return manager.save(target, (await this.toSave(step, place)) as never, step.options as never);
      case 'insert':
        return manager.insert(target, step.rows.map(copy) as never);
      case 'upsert': {
        const { target: conflictPaths, indexPredicate, skipUpdateIfNoValuesChanged } = step;
        const more = {
          ...(indexPredicate === undefined ? {} : { indexPredicate }),
          ...(skipUpdateIfNoValuesChanged ? { skipUpdateIfNoValuesChanged } : {}),
        };
        return manager.upsert(target, step.rows.map(copy) as never, { conflictPaths: [...conflictPaths], ...more });
      }
      case 'update':
        return manager.update(target, step.where, copy(step.set) as never);
      case 'delete':
      case 'softDelete':
      case 'restore':
        return manager[step.do](target, step.where);
      case 'remove':
      case 'softRemove':
      case 'recover':
        return this.take(step, place);
      case 'increment':
      case 'decrement':
        return manager[step.do](target, step.where, step.column, step.by);
      case 'relate':
        return manager.createQueryBuilder().relation(target, step.relation).of(step.of)[step.verb](step.value);
      case 'find':
        return manager.find(target, { where: step.where });
      case 'remember':
        return void memory.set(step.entity, await manager.find(target, { where: step.where, withDeleted: true }));
      case 'clear':
        return manager.clear(target);
      default:
        return this.build(step, manager);
    }
  }

  private async take(step: StepOf<'remove' | 'softRemove' | 'recover'>, { manager, memory }: Place): Promise<unknown> {
    const { do: verb, entity, where, options } = step;
    const found = where
      ? await manager.find(this.classes[entity], { where, withDeleted: verb !== 'remove' })
      : (memory.get(entity) ?? []);
    switch (verb) {
      case 'remove':
        return manager.remove(found, options as never);
      case 'softRemove':
        return manager.softRemove(found, options as never);
      case 'recover':
        return manager.recover(found, options as never);
    }
  }

  private build(
    step: StepOf<'buildUpdate' | 'buildInsert' | 'buildDelete' | 'buildSoftDelete' | 'buildRestore'>,
    manager: EntityManager,
  ): Promise<unknown> {
    const target = this.classes[step.entity];
    const builder = manager.createQueryBuilder();
    switch (step.do) {
      case 'buildUpdate': {
        const set = Object.entries(step.expressions).map(([column, text]) => [column, () => text]);
        return builder.update(target).set(Object.fromEntries(set)).where(step.where).execute();
      }
      case 'buildInsert': {
        const insert = builder.insert().into(target).values(step.rows.map(copy));
        if (step.conflict === 'ignore') return insert.orIgnore().execute();
        return insert.orUpdate([...step.conflict.overwrite], [...step.conflict.target]).execute();
      }
      case 'buildDelete':
        return builder.delete().from(target).where(step.where).execute();
      case 'buildSoftDelete':
        return builder.softDelete().from(target).where(step.where).execute();
      case 'buildRestore':
        return builder.restore().from(target).where(step.where).execute();
    }
  }

  private async toSave(step: StepOf<'save'>, place: Place): Promise<unknown[]> {
    const target = this.classes[step.entity];
    const { manager, memory } = place;
    const make = (row: Values) => manager.create(target, copy(row));
    switch (step.form) {
      case 'plain':
        return step.rows.map(copy);
      case 'instance':
        return step.rows.map(make);
      case 'remembered': {
        const remembered = memory.get(step.entity) ?? [];
        const { id: _, ...values } = copy(step.rows[0] ?? {});
        return remembered.map((entity) => manager.merge(target, entity, values));
      }
      case 'loaded':
        return this.loaded(step, manager);
    }
  }

  private async loaded({ entity, rows }: StepOf<'save'>, manager: EntityManager): Promise<ObjectLiteral[]> {
    const target = this.classes[entity];
    const { primaryColumns, oneToManyRelations, oneToOneRelations } = this.dataSource.getMetadata(target);
    const inverse = oneToOneRelations.filter(({ isOwning }) => !isOwning);
    const relations = [...oneToManyRelations, ...inverse].map(({ propertyName }) => [propertyName, true]);
    const keys = primaryColumns.map(({ propertyName }) => propertyName);
    const found: ObjectLiteral[] = [];
    for (const row of rows) {
      const where = keys.every((key) => key in row) ? pick(row, keys) : pick(row, ['name', 'code']);
      const one = await manager.findOne(target, { where, relations: Object.fromEntries(relations) });
      found.push(one ? manager.merge(target, one, copy(row)) : manager.create(target, copy(row)));
    }
    return found;
  }
}

/** Whether an error is a deadlock or, on MariaDB, a row that has changed since the snapshot of the transaction. */
function isRollbackByServer(error: unknown): boolean {
  return [1213, 1020].includes((error as { errno?: number }).errno ?? 0);
}

/** Ends a transaction that is to be rolled back. */
class RollBack extends Error {}

/** A copy, because TypeORM changes the given objects. */
function copy(row: Values): ObjectLiteral {
  return structuredClone(row) as ObjectLiteral;
}

function pick(row: Values, keys: readonly string[]): Values {
  return Object.fromEntries(keys.filter((key) => row[key] !== null && key in row).map((key) => [key, row[key]]));
}
