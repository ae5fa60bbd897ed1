import type { DataSource, EntityManager, ObjectLiteral } from 'typeorm';
import type { EntityName } from './entities.js';
import type { Program, Step, Values } from './program.js';

export type ModelClasses = Readonly<Record<EntityName, new () => ObjectLiteral>>;

/** What a run of a program has shown, besides the rows. */
export interface Run {
  /** Errors that a step met, whoever caught them. */
  readonly errors: readonly unknown[];
}

/** Plays programs on one data source. */
export class Player {
  private readonly late: Promise<unknown>[] = [];
  private readonly errors: unknown[] = [];

  constructor(
    private readonly dataSource: DataSource,
    private readonly classes: ModelClasses,
  ) {}

  /** Until every promise has settled, also those that nobody awaited. */
  async play({ writers }: Program): Promise<Run> {
    const { manager } = this.dataSource;
    await Promise.all(writers.map((steps) => this.caught(() => this.inTurn(steps, manager))));
    for (let n = 0; n < this.late.length; n++) await this.late[n];
    return { errors: this.errors };
  }

  private async inTurn(steps: readonly Step[], manager: EntityManager): Promise<void> {
    for (const step of steps) await this.step(step, manager);
  }

  private async caught(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.errors.push(error);
    }
  }

  private async step(step: Step, manager: EntityManager): Promise<unknown> {
    switch (step.do) {
      case 'transaction':
        return step.style === 'callback' ? this.byCallback(step, manager) : this.byRunner(step, manager);
      case 'runner':
        return this.onRunner(step.steps, manager);
      case 'swallow':
        for (const inner of step.steps) await this.caught(() => this.step(inner, manager));
        return;
      case 'all': {
        const works = step.steps.map((inner) => this.noted(this.step(inner, manager)));
        return step.isSettled ? Promise.allSettled(works) : Promise.all(works);
      }
      case 'forget':
        for (const inner of step.steps) this.late.push(this.caught(() => this.step(inner, manager)));
        return;
      default:
        return this.write(step, manager);
    }
  }

  /** So that nothing of a program goes on when it is over, and no rejection is without a handler. */
  private noted<T>(work: Promise<T>): Promise<T> {
    this.late.push(this.caught(() => work));
    return work;
  }

  private byCallback(step: Step & { do: 'transaction' }, manager: EntityManager): Promise<unknown> {
    const work = async (inner: EntityManager) => {
      await this.inTurn(step.steps, inner);
      if (step.end === 'rollback') throw new RollBack();
    };
    const done = step.level ? manager.transaction(step.level, work) : manager.transaction(work);
    return done.catch((error: unknown) => {
      if (!(error instanceof RollBack)) throw error;
    });
  }

  private async byRunner(step: Step & { do: 'transaction' }, manager: EntityManager): Promise<void> {
    const runner = manager.queryRunner ?? this.dataSource.createQueryRunner();
    try {
      await runner.startTransaction(step.level);
      try {
        await this.inTurn(step.steps, runner.manager);
      } catch (error) {
        await runner.rollbackTransaction();
        throw error;
      }
      await (step.end === 'commit' ? runner.commitTransaction() : runner.rollbackTransaction());
    } finally {
      if (!manager.queryRunner) await runner.release();
    }
  }

  private async onRunner(steps: readonly Step[], manager: EntityManager): Promise<void> {
    // In a transaction there is a runner already, and another one would wait for it.
    if (manager.queryRunner) return this.inTurn(steps, manager);
    const runner = this.dataSource.createQueryRunner();
    try {
      await this.inTurn(steps, runner.manager);
    } finally {
      await runner.release();
    }
  }

  private async write(step: Exclude<Step, { steps: readonly Step[] }>, manager: EntityManager): Promise<unknown> {
    if (step.do === 'fail') return manager.query('SELECT * FROM nothing');
    const target = this.classes[step.entity];
    switch (step.do) {
      case 'save':
        return manager.save(target, (await this.toSave(step, manager)) as never, step.options as never);
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
      case 'recover': {
        const found = await manager.find(target, { where: step.where, withDeleted: step.do !== 'remove' });
        return this.take(step, found, manager);
      }
      case 'increment':
      case 'decrement':
        return manager[step.do](target, step.where, step.column, step.by);
      case 'relate':
        return manager.createQueryBuilder().relation(target, step.relation).of(step.of)[step.verb](step.value);
      case 'find':
        return manager.find(target, { where: step.where });
      default:
        return this.build(step, manager);
    }
  }

  private take(
    { do: verb, options }: Step & { do: 'remove' | 'softRemove' | 'recover' },
    found: ObjectLiteral[],
    manager: EntityManager,
  ): Promise<unknown> {
    switch (verb) {
      case 'remove':
        return manager.remove(found, options as never);
      case 'softRemove':
        return manager.softRemove(found, options as never);
      case 'recover':
        return manager.recover(found, options as never);
    }
  }

  private build(step: Step & { do: `build${string}` }, manager: EntityManager): Promise<unknown> {
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

  private async toSave(step: Step & { do: 'save' }, manager: EntityManager): Promise<unknown[]> {
    const target = this.classes[step.entity];
    if (step.form === 'plain') return step.rows.map(copy);
    const make = (row: Values) => manager.create(target, copy(row));
    if (step.form === 'instance') return step.rows.map(make);
    const { primaryColumns, oneToManyRelations, oneToOneRelations } = this.dataSource.getMetadata(target);
    const inverse = oneToOneRelations.filter(({ isOwning }) => !isOwning);
    const relations = [...oneToManyRelations, ...inverse].map(({ propertyName }) => [propertyName, true]);
    const keys = primaryColumns.map(({ propertyName }) => propertyName);
    const loaded = [];
    for (const row of step.rows) {
      const where = keys.every((key) => key in row) ? pick(row, keys) : pick(row, ['name', 'code']);
      const found = await manager.findOne(target, { where, relations: Object.fromEntries(relations) });
      loaded.push(found ? manager.merge(target, found, copy(row)) : make(row));
    }
    return loaded;
  }
}

/** Ends a transaction that is to be rolled back. */
class RollBack extends Error {}

/** TypeORM writes into what it is given. */
function copy(row: Values): ObjectLiteral {
  return structuredClone(row) as ObjectLiteral;
}

function pick(row: Values, keys: readonly string[]): Values {
  return Object.fromEntries(keys.filter((key) => row[key] !== null && key in row).map((key) => [key, row[key]]));
}
