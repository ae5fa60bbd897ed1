import type { DataSource, EntityMetadata, ObjectLiteral, QueryRunner } from 'typeorm';
import { EntityManager } from 'typeorm';
import { EntityPersistExecutor } from 'typeorm/persistence/EntityPersistExecutor.js';
import { SubjectExecutor } from 'typeorm/persistence/SubjectExecutor.js';
import { ConfigurationError } from '../../errors.js';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import { dataSourceOf, type OfDataSource } from '../../typeorm-compat.js';

/** Where a builder keeps the criteria that it was given. A symbol of the process, like {@link INTERCEPTOR}. */
export const CRITERIA = Symbol.for('nestjs-entity-webhooks:criteria');

/** What a write builder says; the part of TypeORM's expression map that is read here. */
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
 * TypeORM's insert, update, delete and soft-delete builders, with the protected methods of which capture composes its own
 * statements. {@link checkTypeorm} looks whether they are there.
 */
export type WriteBuilder = OfDataSource & WriteBuilderParts;

interface WriteBuilderParts {
  /** Of a `save()`'s own statement: what was given to `where()`. */
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

/** Lists of `SubjectExecutor`: the rows that one `save()` or its like writes. */
const SAVED_ROWS = [
  'insertSubjects',
  'updateSubjects',
  'removeSubjects',
  'softRemoveSubjects',
  'recoverSubjects',
] as const;

/** The rows of one `save()` by what it does to them, as far as TypeORM knows them by now. */
type SavedRows = Readonly<Record<(typeof SAVED_ROWS)[number], readonly SavedRow[]>>;

/** A `save()`, `remove()`, `softRemove()` or `recover()` that sends its statements. */
export interface Saving {
  readonly queryRunner: QueryRunner;
  /** Whether it calls hooks: `listeners: false` turns capture off, too. */
  readonly firesListeners: boolean;
  readonly rows: SavedRows;
}

/** A row that it writes: the part of TypeORM's `Subject` that is read here. */
export interface SavedRow {
  readonly metadata: EntityMetadata;
  /** Known once the row is inserted. */
  readonly identifier?: ObjectLiteral;
  /** The row as TypeORM has loaded it, without a lock. */
  readonly databaseEntity?: ObjectLiteral;
  /** What TypeORM sets; a relation stands for a foreign key. */
  readonly changeMaps: readonly { readonly relation?: unknown }[];
}

/** What stands between the builders of one data source and the database. */
export interface WriteInterceptor {
  /**
   * @param run what TypeORM does itself
   * @param saving the statement is one of this `save()` or `remove()`
   */
  execute(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    saving: Saving | undefined,
  ): Promise<unknown>;
  /** A `save()` or `remove()` has sent its statements and called its hooks, or has failed on the way. */
  saved(saving: Saving): Promise<void>;
  /**
   * @param runner of the manager that was asked to `save()`, `remove()`, `softRemove()` or `recover()`
   * @param run what TypeORM does itself
   */
  persist(runner: QueryRunner, persisting: Persisting, run: () => Promise<unknown>): Promise<unknown>;
  /**
   * @param runner of the manager that was asked for a `transaction()`
   * @param run what TypeORM does itself
   */
  transaction(runner: QueryRunner, run: () => Promise<unknown>): Promise<unknown>;
  /** @param runner of the manager that was asked, if it has one */
  clear(metadata: EntityMetadata, runner: QueryRunner | undefined, clearing: Clearing): Promise<unknown>;
}

/** A call of `save()`, `remove()`, `softRemove()` or `recover()`. */
export interface Persisting {
  /** Names it in an error. */
  readonly label: () => string;
  /** The `data` that it was given. */
  readonly data: unknown;
}

/** A call of `clear()`. */
export interface Clearing {
  /** What TypeORM does itself. */
  readonly run: () => Promise<unknown>;
  /** As the caller has given them. */
  readonly options: { cascade?: boolean } | undefined;
}

/** Where a data source carries its hold. A symbol of the process: two copies of this package find each other's. */
const INTERCEPTOR = Symbol.for('nestjs-entity-webhooks:write-hold');
const IS_INTERCEPTED = Symbol.for('nestjs-entity-webhooks:is-held');
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
/** What TypeORM makes to send the statements of one `save()` or its like: the part that is read here. */
interface SubjectSender extends SavedRows {
  queryRunner: QueryRunner;
  readonly options?: { readonly listeners?: boolean };
}

/**
 * The `save()` or `remove()` that is sending its own statements, by the query runner as it sees it: those come from the same builders.
 * `callListeners(false)`, which they say, is what an application may say, too.
 *
 * No AsyncLocalStorage: entering one for each write makes all promises of a process dearer on Node.js 20 and 22, 4 % of a `save()`.
 */
const savings = new WeakMap<QueryRunner, Saving>();

/** The query runner of a `save()` as it alone sees it: builders that it makes by the manager there are known by it. */
function asSeenBy(saving: Saving): QueryRunner {
  const seen: QueryRunner = new Proxy(saving.queryRunner, {
    get: (runner, key) => (key === 'manager' ? manager : (Reflect.get(runner, key) as unknown)),
  });
  const manager = new Proxy(saving.queryRunner.manager, {
    get: (real, key) => (key === 'queryRunner' ? seen : (Reflect.get(real, key) as unknown)),
  });
  savings.set(seen, saving);
  return seen;
}

/** What TypeORM makes for each `save()` and its like. */
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
 * Makes TypeORM ask `hold` before a builder of this data source writes.
 *
 * `execute()` is replaced on the prototypes of TypeORM's four write builders, once per process, by a method that looks whether the
 * builder's data source has a hold, and otherwise does what it did: nothing is kept outside the data source. The prototypes are the one
 * place that every builder passes, however it was made: TypeORM's registry of builder classes is written anew by each `new
 * DataSource()`, and what is made by `clone()`, `createQueryBuilder()` or a relation builder passes no method of the data source.
 *
 * @throws ConfigurationError `UNKNOWN_TYPEORM`
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

/** Gives the data source back: its builders write as TypeORM does. */
export function restoreWrites(dataSource: DataSource): void {
  delete (dataSource as Intercepted)[INTERCEPTOR];
}

/** @throws ConfigurationError `UNKNOWN_TYPEORM`: what capture relies on is not there */
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

/** Keeps the criteria of a `save()`'s own statement as they were given: TypeORM names rows without an entity by them. */
function replaceWhere(prototype: Methods): void {
  replace(prototype, 'where', (original) => {
    return function where(this: WriteBuilder, ...args: never[]): unknown {
      if (this.queryRunner && savings.has(this.queryRunner)) this[CRITERIA] = args[0];
      return original.apply(this as never, args);
    };
  });
}

/** Where no query runner was given, it makes one, which nobody else has. */
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

/** One without a query runner makes its own, which nobody else has. */
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
      this.queryRunner = asSeenBy(saving);
      try {
        await original.apply(this as never, args);
      } catch (error) {
        // The caller may swallow it and commit what was written before.
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

/** Once, and for every instance of the module: a second one would hold each write twice. */
function replace(
  prototype: Methods,
  name: string,
  by: (original: (...args: never[]) => unknown) => (...args: never[]) => unknown,
): void {
  const original = prototype[name] as ((...args: never[]) => unknown) & { [IS_INTERCEPTED]?: true };
  if (original[IS_INTERCEPTED]) return;
  prototype[name] = Object.assign(by(original), { [IS_INTERCEPTED]: true as const });
}
