import type { DataSource, QueryRunner } from 'typeorm';
import { Broadcaster } from 'typeorm/subscriber/Broadcaster.js';
import { ConfigurationError } from '../../errors.js';
import { dataSourceOf, type QueryEndEvent, type QueryEvent } from '../../typeorm-compat.js';
import type { SentStatement } from './sent-statement.js';

/** Called around every statement of a data source. */
export interface StatementHooks {
  /** Called after the `beforeQuery` hooks of the application, immediately before the statement is sent. Not called if one of them fails. */
  beforeQuery(event: QueryEvent): Promise<void> | undefined;
  /** Called once for each statement that was sent, before the `afterQuery` hooks of the application. */
  afterQuery(event: QueryEndEvent): Promise<void> | undefined;
  /**
   * Called when the database has executed a statement. If the method returns a captured statement, the statement gets the errors of the
   * `afterQuery` hooks of the application, and `query()` returns the result.
   */
  executed(runner: QueryRunner, query: string): SentStatement | undefined;
}

/**
 * The property of a data source that holds its hooks, and the mark of a replaced method. The keys are global symbols, so that two copies of
 * this package share them.
 */
const HOOKS = Symbol.for('nestjs-entity-webhooks:statement-hooks');
const IS_INTERCEPTED = Symbol.for('nestjs-entity-webhooks:is-intercepted');
type Hooked = DataSource & { [HOOKS]?: StatementHooks };

/** The promises of the hooks of one event. */
interface HookResult {
  promises: Promise<unknown>[];
}
type AfterQueryArguments = [
  result: HookResult,
  query: string,
  values: unknown,
  success: boolean,
  tookMs: number | undefined,
  rawResults: unknown,
  error: unknown,
];
type Broadcast = (this: Broadcasting, event: string, ...args: unknown[]) => Promise<void>;
type BroadcastAfterQuery = (this: Broadcasting, ...args: AfterQueryArguments) => void;

/** TypeORM's `Broadcaster`: it calls the hooks of all subscribers. Each query runner has its own. */
interface Broadcasting {
  readonly queryRunner: QueryRunner;
  broadcast: Broadcast & { [IS_INTERCEPTED]?: true };
  broadcastAfterQueryEvent: BroadcastAfterQuery;
}

/**
 * Makes TypeORM call `hooks` around every statement of the data source.
 *
 * A subscriber cannot do this. TypeORM runs the `beforeQuery` hooks of all subscribers concurrently. If one of them fails, the statement is
 * not sent, and TypeORM does not call the other subscribers again. A mark for triggers that was set for the statement would then stay on
 * the connection. And if the `afterQuery` of one subscriber throws, TypeORM does not call that of the next subscribers, so an answer would be missed.
 *
 * @throws ConfigurationError `UNKNOWN_TYPEORM`: a method that capture uses does not exist
 */
export function hookStatements(dataSource: DataSource, hooks: StatementHooks): void {
  const prototype = (Broadcaster as unknown as { prototype: Broadcasting } | undefined)?.prototype;
  const missing = (['broadcast', 'broadcastAfterQueryEvent'] as const).filter(
    (method) => typeof prototype?.[method] !== 'function',
  );
  if (!prototype || missing.length) {
    throw new ConfigurationError(
      'UNKNOWN_TYPEORM',
      `The installed TypeORM cannot be captured: Broadcaster has no ${missing.join(', ')}, so capture would not see its statements. Install a supported version of TypeORM, or a newer nestjs-entity-webhooks.`,
      { details: { missing } },
    );
  }
  if (!prototype.broadcast[IS_INTERCEPTED]) replaceBroadcasts(prototype);
  (dataSource as Hooked)[HOOKS] = hooks;
}

/** Removes the hooks from the data source. */
export function unhookStatements(dataSource: DataSource): void {
  delete (dataSource as Hooked)[HOOKS];
}

function replaceBroadcasts(prototype: Broadcasting): void {
  const { broadcast, broadcastAfterQueryEvent } = prototype;
  prototype.broadcast = Object.assign(beforeStatements(broadcast), { [IS_INTERCEPTED]: true as const });
  prototype.broadcastAfterQueryEvent = afterStatements(broadcastAfterQueryEvent);
}

function hooksOf({ queryRunner }: Broadcasting): StatementHooks | undefined {
  return (dataSourceOf(queryRunner) as Hooked)[HOOKS];
}

function beforeStatements(original: Broadcast): Broadcast {
  return function broadcast(event, ...args) {
    const others = original.call(this, event, ...args);
    const hooks = event === 'BeforeQuery' ? hooksOf(this) : undefined;
    if (!hooks) return others;
    return others.then(() => hooks.beforeQuery({ queryRunner: this.queryRunner, query: args[0] as string }));
  };
}

function afterStatements(original: BroadcastAfterQuery): BroadcastAfterQuery {
  // If a hook throws after a successful statement, TypeORM reports the statement a second time, as failed, with the same result object.
  const reported = new WeakSet<HookResult>();
  return function broadcastAfterQueryEvent(...args) {
    const [result, query, , success, , rawResults, error] = args;
    const hooks = reported.has(result) ? undefined : hooksOf(this);
    const sent = success ? hooks?.executed(this.queryRunner, query) : undefined;
    const own = hooks?.afterQuery({ queryRunner: this.queryRunner, query, success, rawResults, error });
    try {
      original.apply(this, args);
    } catch (thrown) {
      if (!sent) {
        reported.add(result);
        if (own) result.promises.push(own);
        throw thrown;
      }
      sent.hookFailed(thrown);
    }
    if (own || sent) result.promises = [settled(own, result.promises, sent)];
  };
}

/** Waits for capture, even if a hook of the application fails: the caller may release the query runner after the error. */
async function settled(
  own: Promise<void> | undefined,
  promises: readonly Promise<unknown>[],
  sent: SentStatement | undefined,
): Promise<void> {
  const others = Promise.all(promises);
  await Promise.allSettled([own, others]);
  await own;
  await (sent ? others.catch((error: unknown) => sent.hookFailed(error)) : others);
}
