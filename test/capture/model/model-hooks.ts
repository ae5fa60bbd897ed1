import type { EntityManager, EntitySubscriberInterface, InsertEvent, ObjectLiteral, QueryRunner } from 'typeorm';
import type { BeforeQueryEvent } from 'typeorm/subscriber/event/QueryEvent.js';
import { Numbered } from './entities.js';

/** Statements before which a writer has read its rows and has no lock yet: it begins its transaction, or reads the rows again with a lock. */
const BEFORE_LOCKS = /^(?:BEGIN|START TRANSACTION)|FOR (?:NO KEY )?UPDATE/i;

type RowEvent = Pick<InsertEvent<ObjectLiteral>, 'manager'> & { readonly entity?: unknown };

/** A subscriber of the application. The name of a row selects the action of its hooks. */
export class ModelHooks implements EntitySubscriberInterface {
  private readonly interruptions = new WeakMap<QueryRunner, () => Promise<void>>();

  /** Runs work of another writer once, before this query runner locks rows. */
  interrupt(runner: QueryRunner, work: () => Promise<void>): void {
    this.interruptions.set(runner, work);
  }

  async beforeQuery({ query, queryRunner }: BeforeQueryEvent): Promise<void> {
    const work = this.interruptions.get(queryRunner);
    if (!work || !BEFORE_LOCKS.test(query)) return;
    this.interruptions.delete(queryRunner);
    await work();
  }

  afterInsert(event: RowEvent): Promise<void> | undefined {
    return this.after(event);
  }

  afterUpdate(event: RowEvent): Promise<void> | undefined {
    return this.after(event);
  }

  afterRemove(event: RowEvent): Promise<void> | undefined {
    return this.after(event);
  }

  afterSoftRemove(event: RowEvent): Promise<void> | undefined {
    return this.after(event);
  }

  /** Not `async`: after a hook that throws synchronously, later hooks are not called. */
  private after({ entity, manager }: RowEvent): Promise<void> | undefined {
    switch ((entity as { name?: unknown } | undefined)?.name) {
      case 'boom':
        throw new Error('a hook throws');
      case 'bang':
        return rejected();
      case 'echo':
        return echo(manager);
      default:
        return undefined;
    }
  }
}

/** If a later hook throws synchronously, TypeORM drops the promise, so its rejection needs a handler here. */
function rejected(): Promise<void> {
  const rejection = Promise.reject<void>(new Error('a hook rejects'));
  rejection.catch(() => undefined);
  return rejection;
}

async function echo(manager: EntityManager): Promise<void> {
  await manager.insert(Numbered, { name: 'written by a hook' });
}
