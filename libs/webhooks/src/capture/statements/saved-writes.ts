import type { ObjectLiteral, QueryRunner } from 'typeorm';
import type { WebhookClock } from '../../clock.js';
import type { DialectName } from '../../dialect.js';
import { onlyOnce } from './read-affected.js';
import { rowsMissed } from './affected-rows.js';
import type { ChangeLog } from './captured-write.js';
import { type BuilderResult, sendingThrough } from '../typeorm/sending-through.js';
import { SentStatement } from '../typeorm/sent-statement.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { CaptureError } from '../../entities/errors.js';
import { insertedImage, insertedValues, canUseSentValues, type InsertedRow } from '../images/inserted-image.js';
import { loadedBefore, loadedImage, relationsOfUpdate } from '../images/loaded-images.js';
import { idOf, readRows, rowKey } from '../images/row-reader.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { SavedRowImages } from './saved-row-images.js';
import { beforeImageOf, type Before, type RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import { CRITERIA, type Saving, type WriteBuilder } from '../typeorm/write-builder.js';
import { tableName, type WrittenTable } from '../images/written-table.js';
import { dataSourceOf, softDeletesAgain } from '../../typeorm-compat.js';

type Run = (builder: WriteBuilder) => Promise<unknown>;

export interface SavedWritesOptions {
  readonly log: ChangeLog;
  readonly clock: WebhookClock;
  readonly dialect: DialectName;
  /** Captures a statement by its criteria, in the same way as a statement of a query builder. */
  byCriteria(builder: WriteBuilder, run: Run, onRecorded: (changes: readonly RowChange[]) => void): Promise<unknown>;
}

/** One statement of a `save()`, on rows of one entity. */
interface SavedStatement {
  readonly builder: WriteBuilder;
  readonly run: Run;
  readonly runner: QueryRunner;
  readonly plan: EntityPlan;
  readonly images: SavedRowImages;
  /** `null` if the application has no hooks that may fail. */
  readonly sent: SentStatement | null;
  /** Whether the statement has written rows whose changes are not recorded yet. */
  isUnrecorded: boolean;
}

/** A row that a statement identifies by its key. */
interface NamedRow {
  /** TypeORM's identifier object. The object may also hold a version. */
  readonly identifier: ObjectLiteral;
  readonly id: ObjectLiteral;
  readonly key: string;
}

/** The result of TypeORM's InsertQueryBuilder. */
interface InsertResult {
  readonly identifiers: readonly (ObjectLiteral | undefined)[];
  readonly generatedMaps: readonly (ObjectLiteral | undefined)[];
}

/** The result of a successful statement. */
type StatementAnswer = Pick<BuilderResult, 'affected' | 'raw'>;

/**
 * The maximum number of updates of one `save()` that return their after images. If a `save()` sends more updates, one statement reads all
 * after images.
 */
const MOST_RETURNED = 10;
/** The prefix of the aliases of values that a statement returns for an image. */
const RETURNED = 'wh_n';

/** The result of an update that was not sent, because its row does not exist. */
const ROW_MISSING = Symbol('row missing');

const ACTIONS: Readonly<Record<string, EntityAction>> = {
  update: 'updated',
  'soft-delete': 'deleted',
  restore: 'restored',
};

/**
 * Captures `save()`, `remove()`, `softRemove()` and `recover()` by their statements. Each change is recorded as soon as its statement has
 * succeeded. docs/decisions/0007-save-by-statements.md explains why hooks are not sufficient.
 */
export class SavedWrites {
  private readonly images = new WeakMap<Saving, SavedRowImages>();
  /** The last captured statement of each `save()`. */
  private readonly last = new WeakMap<Saving, Promise<unknown>>();

  constructor(private readonly options: SavedWritesOptions) {}

  /**
   * Runs a statement of a `save()`. On SQLite and MySQL, TypeORM sends the updates of one `save()` concurrently. This method sends them one
   * after another, so that each update sees the rows that the previous update has written. After a failure the remaining statements are not
   * sent, because these statements could arrive after the ROLLBACK.
   */
  execute(builder: WriteBuilder, run: Run, saving: Saving, table: WrittenTable): Promise<unknown> {
    const last = this.last.get(saving);
    const capture = () => this.capture(builder, run, saving, table);
    const result = last ? last.then(capture) : capture();
    this.last.set(saving, result);
    return result;
  }

  /** The before images of the rows that a `save()` writes. */
  imagesOf(saving: Saving): SavedRowImages {
    let images = this.images.get(saving);
    if (!images) this.images.set(saving, (images = new SavedRowImages(saving, this.options)));
    return images;
  }

  private capture(builder: WriteBuilder, run: Run, saving: Saving, table: WrittenTable): Promise<unknown> {
    const images = this.imagesOf(saving);
    const plan = table.plans.find(({ definition }) => definition.metadata === table.metadata);
    const { queryType } = builder.expressionMap;
    const isInsert = queryType === 'insert';
    const rows = plan && !isInsert && !table.isShared ? rowsNamedBy(builder, plan.definition) : null;
    // In a shared table the row may belong to another entity than the entity that was saved.
    if (!plan || (isInsert ? !findsKeys(builder, plan.definition) : !rows)) {
      return this.options.byCriteria(builder, run, (changes) => images.recorded(changes));
    }
    const { statements } = this.options.log.writesOf(saving.queryRunner);
    const sent = statements.hasHooks ? new SentStatement() : null;
    const statement = { builder, run, runner: saving.queryRunner, plan, images, sent, isUnrecorded: false };
    const isUpdate = rows !== null && queryType !== 'delete';
    const written = statements.run(() => {
      images.countOwn();
      return this.write(statement, rows);
    });
    if (!isUpdate) return written;
    // The row did not exist when its before image was read. Another writer may insert the row before the update is sent. So the row is
    // read, locked and written as for a statement of a query builder.
    const byCriteria = () => this.options.byCriteria(builder, run, (changes) => images.recorded(changes));
    return written.then((result) => (result === ROW_MISSING ? byCriteria() : result));
  }

  private async write(statement: SavedStatement, rows: readonly NamedRow[] | null): Promise<unknown> {
    const { builder, runner, plan, sent } = statement;
    const isDelete = builder.expressionMap.queryType === 'delete';
    try {
      const result = rows
        ? await (isDelete ? this.remove(statement, rows) : this.update(statement, rows[0] as NamedRow))
        : await this.insert(statement);
      sent?.throwHookError();
      return result;
    } catch (error) {
      // Rows are written, and their images or keys are unknown.
      if (statement.isUnrecorded && this.options.log.isOpen(runner)) this.options.log.refuse(runner, plan, error);
      throw error;
    }
  }

  private async insert(statement: SavedStatement): Promise<unknown> {
    const { builder, runner, plan } = statement;
    const { definition } = plan;
    const sets = setsOf(builder.expressionMap);
    // Take the values before the statement is sent: afterwards TypeORM adds values of the database to these objects.
    const sent = canUseSentValues(definition) ? sets.map((set) => insertedValues(definition, set)) : null;
    // SQLite returns a bigint as a number, and the number has lost digits. So keep the given id.
    const given = sets.map((set) => givenId(definition, set));
    const result = (await this.send(statement, () => {})) as InsertResult;
    if (!statement.isUnrecorded) return result;
    const changes = sets.map((_, n): RowChange => {
      const id = given[n] ?? result.identifiers[n];
      if (!id) throw rowsUnknown(definition);
      const key = rowKey(definition, id);
      const values = sent?.[n];
      const row: InsertedRow = { key, entity: sets[n] as ObjectLiteral, generated: result.generatedMaps[n] ?? {} };
      const image = values ? insertedImage(plan, values, row, dataSourceOf(runner)) : null;
      return this.change('created', statement, idOf(definition, id), key, null, image);
    });
    await this.record(statement, changes);
    return result;
  }

  private async update(statement: SavedStatement, row: NamedRow): Promise<unknown> {
    const action = ACTIONS[statement.builder.expressionMap.queryType] as EntityAction;
    const before = await this.beforeUpdate(statement, action, row);
    if (!before && action === 'updated') return ROW_MISSING;
    const returned = this.returnImage(statement);
    return this.send(statement, (result) => {
      // The row does not exist, or another writer has already deleted or restored it.
      if (result.affected === 0) return undefined;
      const image = returned?.(result) ?? null;
      return this.record(statement, [this.change(action, statement, row.id, row.key, before, image)]);
    });
  }

  /**
   * On PostgreSQL the update returns its after image. If the `save()` sends more updates than `MOST_RETURNED`, one read after all updates
   * is cheaper.
   */
  private returnImage({
    builder,
    runner,
    plan: { definition, select },
    images,
  }: SavedStatement): ((result: StatementAnswer) => RowImage | null) | null {
    if (this.options.dialect !== 'postgres' || images.updates > MOST_RETURNED || !select.isWhole) return null;
    const dataSource = dataSourceOf(builder);
    const asked = builder.createReturningExpression.bind(builder);
    const list = select.list(RETURNED, `${tableName(definition.metadata, dataSource)}.`);
    builder.createReturningExpression = (type) => [asked(type), list].filter(Boolean).join(', ');
    return ({ raw }) => {
      const row = (raw as Record<string, unknown>[] | undefined)?.[0];
      return row ? select.image(runner, row, select.names(RETURNED)) : null;
    };
  }

  /**
   * The before image of an update. The image is built before the statement is sent, because the `owner` function of the application may
   * throw.
   */
  private async beforeUpdate(
    { builder, plan, images }: SavedStatement,
    action: EntityAction,
    { identifier, id, key }: NamedRow,
  ): Promise<Before | null> {
    const { definition } = plan;
    if (action !== 'updated') {
      // No image is needed: the condition of the statement checks the delete date. So the affected count shows whether the row has changed.
      if (softDeletesAgain()) onlyOnce(builder, definition.metadata);
      await images.settle(plan, [key]);
      return null;
    }
    if (definition.options.exactPrevious !== false) {
      const image = await images.take(plan, 'update', key, id);
      return image && beforeImageOf(plan, image);
    }
    const set = builder.expressionMap.valuesSet as ObjectLiteral;
    const relations = relationsOfUpdate(definition, (relation) => relation.getEntityValue(set) !== undefined);
    const loaded = loadedImage(definition, images.rowOf(identifier), relations, dataSourceOf(builder));
    if (loaded) await images.settle(plan, [key]);
    const image = loaded ?? (await images.take(plan, 'update', key, id));
    return image && loadedBefore(definition, image, set);
  }

  private async remove(statement: SavedStatement, rows: readonly NamedRow[]): Promise<unknown> {
    const { plan, runner } = statement;
    const found = await this.imagesToRemove(statement, rows);
    return this.send(statement, async ({ affected }) => {
      if (affected === 0) return;
      const written = affected ?? found.size;
      if (written > found.size) throw rowsMissed(plan.definition.metadata.name, found.size, written);
      // A trigger has prevented some deletes, or (without a transaction) another writer has deleted rows before this statement.
      const ids = rows.map(({ id }) => id);
      const kept = written < found.size ? await readRows(runner, plan, ids) : null;
      const changes = rows.flatMap(({ id, key }) => {
        const image = kept?.has(key) ? undefined : found.get(key);
        // If the statement names a row twice, the row was deleted once.
        found.delete(key);
        return image ? [this.change('deleted', statement, id, key, null, image)] : [];
      });
      await this.record(statement, changes);
    });
  }

  private async imagesToRemove(
    { plan, images, builder }: SavedStatement,
    rows: readonly NamedRow[],
  ): Promise<Map<string, RowImage>> {
    const { definition } = plan;
    const found = new Map<string, RowImage>();
    const toRead = new Map<string, ObjectLiteral>();
    const isCheap = definition.options.exactPrevious === false;
    const { relationsNeeded } = definition;
    const dataSource = dataSourceOf(builder);
    for (const { identifier, id, key } of rows) {
      const loaded = isCheap ? loadedImage(definition, images.rowOf(identifier), relationsNeeded, dataSource) : null;
      if (loaded) found.set(key, loaded);
      else toRead.set(key, id);
    }
    await images.settle(plan, [...found.keys()]);
    if (toRead.size) {
      for (const [key, image] of await images.takeAll(plan, 'delete', toRead)) found.set(key, image);
    }
    return found;
  }

  /**
   * Runs a statement and captures the statement as soon as the database has answered. TypeORM may read columns after the statement, and
   * that read may fail.
   */
  private async send(
    statement: SavedStatement,
    capture: (result: StatementAnswer) => Promise<void> | void,
  ): Promise<unknown> {
    const { builder, run, runner, plan, sent } = statement;
    const captureWritten = (result: StatementAnswer) => {
      statement.isUnrecorded = result.affected !== 0;
      return capture(result);
    };
    if (readsAfter(builder, plan)) {
      builder.queryRunner = sendingThrough(runner, async (text, parameters) => {
        const result = await this.query(statement, text, parameters);
        await captureWritten(result);
        return result;
      });
      return run(builder);
    }
    if (sent)
      builder.queryRunner = sendingThrough(runner, (text, parameters) => this.query(statement, text, parameters));
    const result = await run(builder);
    await captureWritten(answerOf(builder, result));
    return result;
  }

  private async query(statement: SavedStatement, text: string, parameters: unknown[]): Promise<BuilderResult> {
    const { runner, sent } = statement;
    if (!sent) return (await runner.query(text, parameters, true)) as unknown as BuilderResult;
    try {
      return await this.options.log.writesOf(runner).statements.query(sent, text, parameters);
    } finally {
      statement.isUnrecorded = sent.isExecuted;
    }
  }

  private change(
    action: EntityAction,
    { builder, plan }: SavedStatement,
    id: ObjectLiteral,
    key: string,
    before: Before | null,
    image: RowImage | null,
  ): RowChange {
    const isRemoved = builder.expressionMap.queryType === 'delete';
    return { plan, action, id, key, at: this.options.clock.now(), before, isRemoved, image };
  }

  private record(statement: SavedStatement, changes: readonly RowChange[]): Promise<void> | void {
    const { runner, images } = statement;
    images.recorded(changes);
    statement.isUnrecorded = false;
    return this.options.log.record(runner, changes);
  }
}

/** Whether TypeORM reads columns by another statement after this statement, because the driver does not return these columns. */
function readsAfter({ expressionMap: { queryType, updateEntity } }: WriteBuilder, plan: EntityPlan): boolean {
  if (!updateEntity || queryType === 'delete') return false;
  return queryType === 'insert' ? plan.isReadAfterInsert : plan.isReadAfterUpdate;
}

/**
 * The result of a statement. If an INSERT on PostgreSQL should return rows and returns no row, a trigger has prevented the INSERT. Other
 * statements report the affected rows.
 */
function answerOf({ expressionMap }: WriteBuilder, result: unknown): StatementAnswer {
  const { affected, raw } = result as StatementAnswer;
  const isKeptOut = expressionMap.extraReturningColumns.length > 0 && Array.isArray(raw) && raw.length === 0;
  return { affected: affected ?? (isKeptOut ? 0 : undefined), raw };
}

/**
 * Whether TypeORM knows the keys after an INSERT. TypeORM does not know the keys with `reload: false`, or if only the database can compute
 * them.
 */
function findsKeys({ expressionMap }: WriteBuilder, { metadata }: EntityDefinition): boolean {
  if (!expressionMap.updateEntity) return false;
  const given = metadata.primaryColumns.filter(({ isGenerated }) => !isGenerated);
  return given.every((column) => setsOf(expressionMap).every((set) => isValue(column.getEntityValue(set))));
}

/**
 * The primary key of a row before its insert. `null` if a part of the key is generated, because PostgreSQL ignores a given number for such
 * a part.
 */
function givenId({ metadata }: EntityDefinition, set: ObjectLiteral): ObjectLiteral | null {
  const { primaryColumns } = metadata;
  const isGiven = primaryColumns.every((column) => !column.isGenerated && isValue(column.getEntityValue(set)));
  return (isGiven && metadata.getEntityIdMap(set)) || null;
}

function isValue(value: unknown): boolean {
  return value !== undefined && value !== null && typeof value !== 'function';
}

function setsOf({ valuesSet }: WriteBuilder['expressionMap']): readonly ObjectLiteral[] {
  return Array.isArray(valuesSet) ? valuesSet : [valuesSet as ObjectLiteral];
}

/** The rows that a statement names; `null` if its criteria are not keys. */
function rowsNamedBy(builder: WriteBuilder, definition: EntityDefinition): readonly NamedRow[] | null {
  const { whereEntities, queryType } = builder.expressionMap;
  const criteria = whereEntities.length ? whereEntities : builder[CRITERIA];
  const identifiers = (Array.isArray(criteria) ? criteria : [criteria]) as unknown[];
  if (identifiers.length !== 1 && queryType !== 'delete') return null;
  const rows: NamedRow[] = [];
  for (const identifier of identifiers) {
    const isObject = typeof identifier === 'object' && identifier !== null;
    // TypeORM adds a version to the identifier. The version must not become part of the key.
    const id = isObject ? definition.metadata.getEntityIdMap(identifier) : undefined;
    if (!isObject || !id) return null;
    rows.push({ identifier, id, key: rowKey(definition, id) });
  }
  return rows;
}

function rowsUnknown({ metadata: { name } }: EntityDefinition): CaptureError {
  return new CaptureError(
    'ROWS_UNKNOWN',
    `A save() inserted rows of ${name}, and TypeORM does not know their primary keys. Their events would be missing, so this transaction cannot be committed. Set the keys before you save, or declare the primary key as generated.`,
    { details: { entity: name } },
  );
}
