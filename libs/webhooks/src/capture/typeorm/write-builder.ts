import type { DataSource, EntityMetadata, ObjectLiteral, QueryRunner } from 'typeorm';
import { EntityManager } from 'typeorm';
import { EntityPersistExecutor } from 'typeorm/persistence/EntityPersistExecutor.js';
import { SubjectExecutor } from 'typeorm/persistence/SubjectExecutor.js';
import { ConfigurationError } from '../../errors.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { dataSourceOf, type OfDataSource } from '../../typeorm-compat.js';

/** The property of a builder that holds its criteria. The key is a global symbol, like {@link INTERCEPTOR}. */
export const CRITERIA = Symbol.for('nestjs-entity-webhooks:criteria');

/** The expression map of a write builder: the part that capture reads. */
export interface WriteExpression {
  readonly queryType: string;
  readonly mainAlias?: { readonly hasMetadata: boolean; readonly metadata: EntityMetadata };
  readonly valuesSet?: ObjectLiteral | ObjectLiteral[];
  readonly wheres: { type: string; condition: unknown }[];
  readonly whereEntities: readonly ObjectLiteral[];
  readonly insertFromSelect?: unknown;
  readonly onIgnore?: boolean;
  onUpdate?: {
    readonly conflict?: string | readonly string[];
    readonly overwrite?: readonly string[];
    readonly columns?: readonly string[];
    readonly skipUpdateIfNoValuesChanged?: boolean;
    readonly overwriteCondition?: readonly unknown[];
  };
  readonly locallyGenerated: Readonly<Record<number, ObjectLiteral>>;
  readonly limit?: number;
  readonly updateEntity: boolean;
  readonly extraReturningColumns: readonly ColumnMetadata[];
  useTransaction: boolean;
}

/**
 * TypeORM's insert, update, delete and soft-delete builders, with the protected methods that capture uses to compose its own statements.
 * {@link checkTypeorm} checks that these methods exist.
 */
export type WriteBuilder = OfDataSource & WriteBuilderParts;

interface WriteBuilderParts {
  /** The criteria that a `save()` has passed to `where()` of its own statement. */
  [CRITERIA]?: unknown;
  queryRunner?: QueryRunner;
  readonly expressionMap: WriteExpression;
  readonly alias: string;
  getMainTableName(): string;
  clone(): WriteBuilder;
  getQueryAndParameters(): [string, unknown[]];
  getParameters(): ObjectLiteral;
  createParameter(value: unknown): string;
  createComment(): string;
  createCteExpression(): string;
  createWhereExpression(): string;
  createReturningExpression(type: string): string;
  replacePropertyNamesForTheWholeQuery(statement: string): string;
  getTableName(path: string): string;
  createOrderByExpression?(): string;
  createLimitExpression?(): string;
  createUpdateExpression?(): string;
  createDeleteExpression?(): string;
  getValueSets?(): ObjectLiteral[];
  getInsertedColumns?(): ColumnMetadata[];
  createColumnValueExpression?(valueSets: ObjectLiteral[], index: number, column: ColumnMetadata): string;
  createUpsertConditionExpression?(table: string): string;
}

/** The lists of `SubjectExecutor`: the rows that one `save()`, `remove()`, `softRemove()` or `recover()` writes. */
const SAVED_ROWS = [
  'insertSubjects',
  'updateSubjects',
  'removeSubjects',
  'softRemoveSubjects',
  'recoverSubjects',
] as const;

/** The rows of one `save()`, grouped by the kind of write. The lists contain the rows that TypeORM knows so far. */
type SavedRows = Readonly<Record<(typeof SAVED_ROWS)[number], readonly SavedRow[]>>;

/** A `save()`, `remove()`, `softRemove()` or `recover()` that is sending its statements. */
export interface Saving {
  readonly queryRunner: QueryRunner;
  /** Whether the call fires hooks. `listeners: false` also turns capture off. */
  readonly firesListeners: boolean;
  readonly rows: SavedRows;
}

/** A row that a `save()` writes: the part of TypeORM's `Subject` that capture reads. */
export interface SavedRow {
  readonly metadata: EntityMetadata;
  /** The identifier is known once the row is inserted. */
  readonly identifier?: ObjectLiteral;
  /** The row that TypeORM has loaded without a lock. */
  readonly databaseEntity?: ObjectLiteral;
  /** The columns that TypeORM sets. An entry with a relation sets its foreign key. */
  readonly changeMaps: readonly { readonly relation?: unknown }[];
}

/** An object whose methods run instead of TypeORM's own methods, for the writes of one data source. */
export interface WriteInterceptor {
  /**
   * Executes a query builder.
   *
   * @param run calls TypeORM's own method
   * @param saving the `save()` or `remove()` that the statement belongs to
   */
  execute(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    saving: Saving | undefined,
  ): Promise<unknown>;
  /** Called after a `save()` or `remove()` has sent its statements and called its hooks, or has failed. */
  saved(saving: Saving): Promise<void>;
  /**
   * Runs a `save()`, `remove()`, `softRemove()` or `recover()`.
   *
   * @param runner the query runner of the manager that was called
   * @param run calls TypeORM's own method
   */
  persist(runner: QueryRunner, persisting: Persisting, run: () => Promise<unknown>): Promise<unknown>;
  /**
   * Runs a `manager.transaction()`.
   *
   * @param runner the query runner of the manager that was called
   * @param run calls TypeORM's own method
   */
  transaction(runner: QueryRunner, run: () => Promise<unknown>): Promise<unknown>;
  /** Runs a `clear()`. @param runner the query runner of the called manager, if the manager has a query runner */
  clear(metadata: EntityMetadata, runner: QueryRunner | undefined, clearing: Clearing): Promise<unknown>;
}

/** A call of `save()`, `remove()`, `softRemove()` or `recover()`. */
export interface Persisting {
  /** Names the call in an error. */
  readonly label: () => string;
  /** The `data` option of the call. */
  readonly data: unknown;
}

/** A call of `clear()`. */
export interface Clearing {
  /** Calls TypeORM's own method. */
  readonly run: () => Promise<unknown>;
  /** The options of the caller. */
  readonly options: { cascade?: boolean } | undefined;
}

/**
 * The property of a data source that holds its interceptor. The key is a global symbol, so that two copies of this package share the
 * property.
 */
const INTERCEPTOR = Symbol.for('nestjs-entity-webhooks:write-interceptor');
const IS_INTERCEPTED = Symbol.for('nestjs-entity-webhooks:is-intercepted');
type Intercepted = DataSource & { [INTERCEPTOR]?: WriteInterceptor };

/** The TypeORM releases that the tests of capture run on. */
const KNOWN_GOOD = 'typeorm@1.1.1 or typeorm@0.3.31';

const OF_EVERY_BUILDER = [
  ...['execute', 'clone', 'getQueryAndParameters', 'getParameters', 'createParameter', 'createComment'],
  ...['createCteExpression', 'createWhereExpression', 'createReturningExpression', 'getTableName'],
  'replacePropertyNamesForTheWholeQuery',
  'getMainTableName',
];
const ORDERED = ['createUpdateExpression', 'createOrderByExpression', 'createLimitExpression'];
const OF_BUILDER = {
  insert: [
    ...['getValueSets', 'getInsertedColumns', 'createColumnValueExpression', 'createInsertExpression'],
    'createUpsertConditionExpression',
  ],
  update: ['where', ...ORDERED],
  delete: ['where', 'createDeleteExpression'],
  softDelete: ['where', ...ORDERED],
} as const;

/** The part of TypeORM's `SubjectExecutor` that capture reads. A `SubjectExecutor` sends the statements of one `save()` or `remove()`. */
interface SubjectSender extends SavedRows {
  queryRunner: QueryRunner;
  readonly options?: { readonly listeners?: boolean };
}

/**
 * The `save()` or `remove()` that is sending its statements. The key is the proxy of the query runner that belongs to this call. Only this
 * proxy identifies the call, because the call uses the same builder classes as an application. `callListeners(false)` does not identify the
 * call either, because an application may also use `callListeners(false)`.
 *
 * An AsyncLocalStorage could identify the call, too. But an AsyncLocalStorage that is entered for each write slows down all promises of a
 * process on Node.js 20 and 22. The cost is 4 % of a `save()`.
 */
const savings = new WeakMap<QueryRunner, Saving>();

/**
 * Creates a proxy of the query runner for one `save()` alone. The `save()` creates its builders by the manager of the proxy. So these
 * builders refer to the proxy, and the proxy identifies the `save()`.
 */
function runnerFor(saving: Saving): QueryRunner {
  const seen: QueryRunner = new Proxy(saving.queryRunner, {
    get: (runner, key) => (key === 'manager' ? manager : (Reflect.get(runner, key) as unknown)),
  });
  const manager = new Proxy(saving.queryRunner.manager, {
    get: (real, key) => (key === 'queryRunner' ? seen : (Reflect.get(real, key) as unknown)),
  });
  savings.set(seen, saving);
  return seen;
}

/**
 * TypeORM's `EntityPersistExecutor`. TypeORM creates an `EntityPersistExecutor` for each `save()`, `remove()`, `softRemove()` and
 * `recover()`.
 */
type Persistence = OfDataSource & PersistenceParts;

interface PersistenceParts {
  readonly queryRunner?: QueryRunner;
  readonly options?: { readonly data?: unknown };
  readonly mode?: string;
  readonly target?: unknown;
  readonly entity?: unknown;
}

type Methods = Record<string | symbol, ((...args: never[]) => unknown) | undefined>;

/**
 * Makes TypeORM call `interceptor` before a builder of this data source writes.
 *
 * `execute()` is replaced on the prototypes of TypeORM's four write builders, once per process. The new method calls the interceptor of the
 * builder's data source. Without an interceptor, the new method calls the original method. No state is kept outside the data source. Every
 * builder uses these prototypes, in whichever way the builder was made. Interception at other places does not work. Each `new DataSource()`
 * overwrites TypeORM's registry of builder classes. Builders from `clone()`, `createQueryBuilder()` or a relation builder call no method of
 * the data source.
 *
 * @throws ConfigurationError `UNKNOWN_TYPEORM`: a method or property that capture uses does not exist
 */
export function interceptWrites(dataSource: DataSource, interceptor: WriteInterceptor): void {
  const prototypes = checkTypeorm(dataSource);
  for (const prototype of prototypes.builders) {
    replaceExecute(prototype);
    if (prototype['where']) replaceWhere(prototype);
  }
  replacePersist(prototypes.persist);
  replacePersistence(prototypes.persistence);
  replaceClear(prototypes.manager);
  replaceTransaction(prototypes.manager);
  (dataSource as Intercepted)[INTERCEPTOR] = interceptor;
}

/** Removes the interceptor. The builders of the data source then call TypeORM's own methods again. */
export function restoreWrites(dataSource: DataSource): void {
  delete (dataSource as Intercepted)[INTERCEPTOR];
}

/** Returns the prototypes. @throws ConfigurationError `UNKNOWN_TYPEORM`: a method or property that capture uses does not exist */
function checkTypeorm(dataSource: DataSource): Record<'persist' | 'persistence' | 'manager', Methods> & {
  builders: Methods[];
} {
  const builders = Object.entries(OF_BUILDER).map(([kind, methods]): Methods => {
    const start = dataSource.createQueryBuilder() as unknown as Record<string, () => object>;
    const prototype = prototypeOf(start[kind]?.());
    requireMethods(`its ${kind} builder`, prototype, [...OF_EVERY_BUILDER, ...methods]);
    return prototype as Methods;
  });
  const persist = (EntityPersistExecutor as unknown as { prototype: Methods } | undefined)?.prototype;
  requireMethods('EntityPersistExecutor', persist, ['execute']);
  const persistence = (SubjectExecutor as unknown as { prototype: Methods } | undefined)?.prototype;
  requireMethods('SubjectExecutor', persistence, ['execute']);
  const runner = {} as QueryRunner;
  const sender = new SubjectExecutor(runner, []) as unknown as SubjectSender;
  refuseMissing('SubjectExecutor', [
    ...SAVED_ROWS.filter((list) => !Array.isArray(sender[list])),
    ...(sender.queryRunner === runner ? [] : ['queryRunner']),
  ]);
  const manager = EntityManager.prototype as unknown as Methods;
  requireMethods('EntityManager', manager, ['clear', 'transaction']);
  return { builders, persist: persist as Methods, persistence: persistence as Methods, manager };
}

function prototypeOf(instance: object | undefined): Methods | undefined {
  return instance && (Object.getPrototypeOf(instance) as Methods);
}

function requireMethods(what: string, prototype: Methods | undefined, methods: readonly string[]): void {
  refuseMissing(
    what,
    methods.filter((method) => typeof prototype?.[method] !== 'function'),
  );
}

function refuseMissing(what: string, missing: readonly string[]): void {
  if (!missing.length) return;
  throw new ConfigurationError(
    'UNKNOWN_TYPEORM',
    `The installed TypeORM cannot be captured: ${what} has no ${missing.join(', ')}, so writes of query builders would make no events. Install a version that is known to work (${KNOWN_GOOD}), or a newer nestjs-entity-webhooks.`,
    { details: { missing } },
  );
}

function replaceExecute(prototype: Methods): void {
  replace(prototype, 'execute', (original) => {
    return function execute(this: WriteBuilder, ...args: never[]): unknown {
      const saving = this.queryRunner && savings.get(this.queryRunner);
      if (saving) this.queryRunner = saving.queryRunner;
      const interceptor = (dataSourceOf(this) as Intercepted)[INTERCEPTOR];
      if (!interceptor) return original.apply(this, args);
      const run = (builder: WriteBuilder) => original.apply(builder as never, args) as Promise<unknown>;
      return interceptor.execute(this, run, saving);
    };
  });
}

/** Keeps the original criteria of a statement of `save()`. TypeORM uses these criteria to identify rows without an entity. */
function replaceWhere(prototype: Methods): void {
  replace(prototype, 'where', (original) => {
    return function where(this: WriteBuilder, ...args: never[]): unknown {
      if (this.queryRunner && savings.has(this.queryRunner)) this[CRITERIA] = args[0];
      return original.apply(this as never, args);
    };
  });
}

/**
 * Replaces `execute()` of `EntityPersistExecutor`. A call without a caller's query runner is not intercepted, because TypeORM creates a
 * query runner for this call alone.
 */
function replacePersist(prototype: Methods): void {
  replace(prototype, 'execute', (original) => {
    return function execute(this: Persistence, ...args: never[]): unknown {
      const interceptor = (dataSourceOf(this) as Intercepted)[INTERCEPTOR];
      if (!interceptor || !this.queryRunner) return original.apply(this as never, args);
      const run = () => original.apply(this as never, args) as Promise<unknown>;
      return interceptor.persist(this.queryRunner, { label: () => labelOf(this), data: this.options?.data }, run);
    };
  });
}

function labelOf({ mode = 'save', target, entity }: Persistence): string {
  const [first] = Array.isArray(entity) ? (entity as unknown[]) : [entity];
  const named = target ?? (first as object | null | undefined)?.constructor;
  const name = typeof named === 'function' ? named.name : typeof named === 'string' ? named : 'entities';
  return `${mode}() of ${name}`;
}

/**
 * Replaces `transaction()` of `EntityManager`. A call on a manager without a query runner is not intercepted: the manager creates a query
 * runner for this call alone.
 */
function replaceTransaction(prototype: Methods): void {
  replace(prototype, 'transaction', (original) => {
    return function transaction(this: EntityManager, ...args: never[]): unknown {
      const interceptor = (dataSourceOf(this) as Intercepted)[INTERCEPTOR];
      const run = () => original.apply(this as never, args) as Promise<unknown>;
      return interceptor && this.queryRunner ? interceptor.transaction(this.queryRunner, run) : run();
    };
  });
}

function replacePersistence(prototype: Methods): void {
  replace(prototype, 'execute', (original) => {
    return async function execute(this: SubjectSender, ...args: never[]): Promise<void> {
      const { queryRunner } = this;
      const interceptor = (dataSourceOf(queryRunner) as Intercepted)[INTERCEPTOR];
      if (!interceptor) return void (await original.apply(this as never, args));
      const saving: Saving = {
        queryRunner,
        firesListeners: this.options?.listeners !== false,
        rows: this,
      };
      this.queryRunner = runnerFor(saving);
      try {
        await original.apply(this as never, args);
      } catch (error) {
        // The caller may swallow the error and commit the statements that succeeded.
        await interceptor.saved(saving).catch(() => undefined);
        throw error;
      } finally {
        this.queryRunner = queryRunner;
      }
      await interceptor.saved(saving);
    };
  });
}

function replaceClear(prototype: Methods): void {
  replace(prototype, 'clear', (original) => {
    return function clear(this: EntityManager, ...args: never[]): unknown {
      const interceptor = (dataSourceOf(this) as Intercepted)[INTERCEPTOR];
      if (!interceptor) return original.apply(this as never, args);
      const [entity, options] = args as unknown as [string, Clearing['options']];
      const run = () => original.apply(this as never, args) as Promise<unknown>;
      return interceptor.clear(dataSourceOf(this).getMetadata(entity), this.queryRunner, { run, options });
    };
  });
}

/**
 * Replaces a method once per process, for all instances of the module. With a second replacement, each write would be intercepted twice.
 */
function replace(
  prototype: Methods,
  name: string,
  by: (original: (...args: never[]) => unknown) => (...args: never[]) => unknown,
): void {
  const original = prototype[name] as ((...args: never[]) => unknown) & { [IS_INTERCEPTED]?: true };
  if (original[IS_INTERCEPTED]) return;
  prototype[name] = Object.assign(by(original), { [IS_INTERCEPTED]: true as const });
}
