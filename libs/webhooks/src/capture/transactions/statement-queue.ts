import { AsyncLocalStorage } from 'node:async_hooks';
import type { EntitySubscriberInterface, QueryRunner } from 'typeorm';
import { dataSourceOf } from '../../typeorm-compat.js';
import type { BuilderResult } from '../typeorm/sending-through.js';
import type { SentStatement } from '../typeorm/sent-statement.js';

/** A statement that is being sent. Hooks of the application may run at the same time. */
interface Sending {
  readonly runner: QueryRunner;
  /** The statement whose hook sends this statement. */
  readonly outer: Sending | undefined;
  /** Whether the statement belongs to work of this library that reads images or writes events. */
  readonly isOfEvents: boolean;
  isOver: boolean;
}

// All instances share this AsyncLocalStorage. Its values belong to one chain of calls, so instances do not affect each other.
const sendings = new AsyncLocalStorage<Sending>();

/** Hooks that run inside a captured statement. */
const HOOKS = ['beforeQuery', 'afterQuery', 'afterLoad'] as const;

/**
 * Runs the captured statements of one query runner one after the other, each together with the read of its rows. Otherwise a statement of
 * another `save()` in the same transaction could run between the statement and the read. Hooks of writes (`afterInsert` and similar hooks)
 * run outside the queue, so these hooks may write. Hooks of the statement itself (`beforeQuery`, `afterQuery`, `afterLoad`) may write, too.
 * An AsyncLocalStorage identifies the writes of these hooks. This AsyncLocalStorage is entered only if the application has such a hook.
 */
export class StatementQueue {
  /** How many writes have begun, including writes that are not captured. */
  count = 0;
  /** How many captured statements are running or queued. */
  private length = 0;
  private last: Promise<unknown> = Promise.resolve();
  /** The captured statements that are under way. If a hook sends another statement, that statement comes later in this list. */
  private readonly sent: SentStatement[] = [];

  /** @param own the subscriber of this library */
  constructor(
    private readonly runner: QueryRunner,
    private readonly own: object,
  ) {}

  /** Sends a captured statement. */
  async query(statement: SentStatement, text: string, parameters: unknown[]): Promise<BuilderResult> {
    Object.assign(statement, { text, isExecuted: false });
    this.sent.push(statement);
    try {
      const result = (await this.runner.query(text, parameters, true)) as unknown as BuilderResult;
      statement.isExecuted = true;
      return result;
    } finally {
      this.sent.splice(this.sent.indexOf(statement), 1);
    }
  }

  /** Called when the database has executed a statement. @returns the statement, if it is captured */
  executed(text: string): SentStatement | undefined {
    const statement = this.sent.findLast((one) => one.text === text && !one.isExecuted);
    if (statement) statement.isExecuted = true;
    return statement;
  }

  run<T>(statement: () => Promise<T>): Promise<T> {
    if (!this.hasHooks) return this.inTurn(statement);
    if (!sendingsOn(this.runner).next().done) {
      this.count++;
      return statement();
    }
    return this.inTurn(() => this.send(statement, false));
  }

  /**
   * Runs statements that read images or write events. The writes of their hooks must not wait for these statements: {@link isInsideEvents}
   * identifies such writes.
   */
  runForEvents<T>(statements: () => Promise<T>): Promise<T> {
    return this.hasHooks ? this.send(statements, true) : statements();
  }

  /** Whether a hook of {@link runForEvents} has made this call. */
  get isInsideEvents(): boolean {
    for (const { isOfEvents } of sendingsOn(this.runner)) if (isOfEvents) return true;
    return false;
  }

  private async send<T>(statement: () => Promise<T>, isOfEvents: boolean): Promise<T> {
    const sending: Sending = { runner: this.runner, outer: sendings.getStore(), isOfEvents, isOver: false };
    try {
      return await sendings.run(sending, statement);
    } finally {
      sending.isOver = true;
    }
  }

  /** Whether hooks of the application run while a statement is sent, or while TypeORM reads the written rows. */
  get hasHooks(): boolean {
    const subscribers: readonly EntitySubscriberInterface[] = dataSourceOf(this.runner).subscribers;
    return subscribers.some((one) => one !== this.own && HOOKS.some((hook) => hook in one));
  }

  private inTurn<T>(statement: () => Promise<T>): Promise<T> {
    const begin = () => {
      this.count++;
      return statement();
    };
    const result = this.length ? this.last.then(begin, begin) : begin();
    const leave = () => {
      this.length--;
    };
    this.length++;
    this.last = result;
    result.then(leave, leave);
    return result;
  }
}

/** The statements on a query runner whose hooks have made this call. The innermost statement comes first. */
function* sendingsOn(runner: QueryRunner): Generator<Sending> {
  for (let sending = sendings.getStore(); sending; sending = sending.outer) {
    if (sending.runner === runner && !sending.isOver) yield sending;
  }
}
