import { AsyncLocalStorage } from 'node:async_hooks';
import type { ObjectLiteral, QueryRunner } from 'typeorm';

/** Who comes one after the other. */
class Queue {
  /** Who waits, and who had their turn and has not left. */
  length = 0;
  private last: Promise<void> = Promise.resolve();

  /** Waits for all that came before. Returns what lets the next one in. */
  async enter(): Promise<() => void> {
    this.length++;
    const before = this.last;
    let leave = () => {};
    this.last = new Promise((resolve) => {
      leave = () => {
        this.length--;
        resolve();
      };
    });
    await before;
    return leave;
  }
}

/** A write on a query runner that its caller has given, and what is done inside it: hooks, and what they write. */
interface Work {
  readonly runner: QueryRunner;
  /** What it was called in. */
  readonly outer: Work | undefined;
  /** For what is written inside. It never waits for what is outside, which may wait for it. */
  readonly queue: Queue;
  /** What `save(x, { data })` was given. */
  readonly data: unknown;
  /** Whatever goes on in this chain of calls has nothing to do with it any more. */
  isOver: boolean;
}

/** The saves that run on one query runner. */
interface Saves {
  /** How many saves run now. */
  count: number;
  /** `data` of the query runner when there was none. */
  readonly data: ObjectLiteral;
}

// It holds nothing by itself, like the scopes of `write-scope.ts`.
const works = new AsyncLocalStorage<Work>();

/** What a statement passes on its way out of a query runner, and what begins or ends a transaction, or the runner. */
const GATES = [
  'query',
  'startTransaction',
  'commitTransaction',
  'rollbackTransaction',
  'release',
  Symbol.asyncDispose,
] as const;

/**
 * Lets several writes be called at the same time on one query runner, which is one connection.
 *
 * Outside a transaction a write of an application that has its own query runner takes a **turn**: it has the runner to itself, as it
 * may open a transaction there. Others wait: writes, statements, what begins or ends a transaction, and `release()`. What is called
 * inside the write, by a hook, is told from that by its chain of calls, and waits only for others inside. In a transaction of the
 * application nobody waits: what is written there belongs together.
 *
 * A query runner that TypeORM makes for one write is nobody else's, and never comes here.
 */
export class RunnerTurns {
  /** Of runners on which a turn was taken once. */
  private readonly queues = new WeakMap<QueryRunner, Queue>();
  private readonly saving = new WeakMap<QueryRunner, Saves>();

  /** @param isInTransaction whether a transaction is open on a query runner, or about to be */
  constructor(private readonly isInTransaction: (runner: QueryRunner) => boolean) {}

  /** Runs a write: in its turn, or at once in a transaction that is the application's. */
  take<T>(runner: QueryRunner, write: () => Promise<T>): Promise<T> {
    return this.run(runner, write, undefined);
  }

  /**
   * Runs what a hook does for its write: at once in a transaction, or in a turn inside that write. Who has to wait for others waits
   * here, before anything that they may wait for is taken.
   */
  inside<T>(runner: QueryRunner, part: () => Promise<T> | T): Promise<T> | T {
    if (!this.queueOf(runner)?.length && this.isInTransaction(runner)) return part();
    return this.take(runner, async () => part());
  }

  /**
   * Runs a `save()`, `remove()`, `softRemove()` or `recover()`. TypeORM puts its `data` on the query runner, where others would see
   * it that run at the same time in one transaction, and puts back what it found there, which may be another's.
   */
  save<T>(runner: QueryRunner, data: unknown, save: () => Promise<T>): Promise<T> {
    const counted = async () => {
      let saving = this.saving.get(runner);
      if (!saving) this.saving.set(runner, (saving = { count: 0, data: runner.data }));
      saving.count++;
      try {
        return await save();
      } finally {
        if (!--saving.count) {
          this.saving.delete(runner);
          runner.data = saving.data;
        }
      }
    };
    return this.run(runner, counted, data);
  }

  /** What the save that is under way here was given as `data`, whatever others put on the query runner meanwhile. */
  dataOf(runner: QueryRunner): unknown {
    const saving = this.saving.get(runner);
    if (!saving) return runner.data;
    for (let work = works.getStore(); work; work = work.outer) {
      if (work.runner === runner && !work.isOver && work.data) return work.data;
    }
    return saving.data;
  }

  /** What the hooks of one write have in common, and those of another on the same query runner have not. */
  sharedBy(runner: QueryRunner): object {
    return workOn(runner) ?? runner;
  }

  private async run<T>(runner: QueryRunner, write: () => Promise<T>, data: unknown): Promise<T> {
    const queue = this.queueOf(runner);
    let leave: (() => void) | undefined;
    if (queue?.length || !this.isInTransaction(runner)) {
      leave = await (queue ?? this.guard(runner)).enter();
      if (this.isInTransaction(runner)) {
        // Of the application, begun while this waited: those who come next belong to it, too.
        leave();
        leave = undefined;
      }
    }
    const work: Work = { runner, outer: underWay(), queue: new Queue(), data, isOver: false };
    try {
      return await works.run(work, write);
    } finally {
      work.isOver = true;
      leave?.();
    }
  }

  private queueOf(runner: QueryRunner): Queue | undefined {
    return workOn(runner)?.queue ?? this.queues.get(runner);
  }

  /** Makes whoever uses a query runner otherwise wait for the turns that are taken on it. */
  private guard(runner: QueryRunner): Queue {
    const queue = new Queue();
    this.queues.set(runner, queue);
    const methods = runner as unknown as Record<string | symbol, (...args: unknown[]) => Promise<unknown>>;
    for (const gate of GATES) {
      const method = runner[gate] as (...args: unknown[]) => Promise<unknown>;
      methods[gate] = (...args) => {
        const pass = () => method.apply(runner, args);
        return this.queueOf(runner)?.length ? this.take(runner, pass) : pass();
      };
    }
    return queue;
  }
}

function underWay(): Work | undefined {
  let work = works.getStore();
  while (work?.isOver) work = work.outer;
  return work;
}

function workOn(runner: QueryRunner): Work | undefined {
  for (let work = works.getStore(); work; work = work.outer) {
    if (work.runner === runner && !work.isOver) return work;
  }
  return undefined;
}
