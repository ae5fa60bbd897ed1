import type { ObjectLiteral, QueryRunner } from 'typeorm';
import type { WebhookClock } from '../../clock.js';
import type { DialectName } from '../../dialect.js';
import { onlyOnce, rowsMissed } from './affected-rows.js';
import type { ChangeLog } from './captured-write.js';
import { type BuilderResult, sendingThrough } from '../typeorm/sending-through.js';
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
  /** Captures a statement by its criteria, like a statement of a query builder. */
  byCriteria(builder: WriteBuilder, run: Run, onRecorded: (changes: readonly RowChange[]) => void): Promise<unknown>;
}

/** One statement of a `save()`, on rows of one entity. */
interface SavedStatement {
  readonly builder: WriteBuilder;
  readonly run: Run;
  readonly runner: QueryRunner;
  readonly plan: EntityPlan;
  readonly images: SavedRowImages;
}

/** A row that a statement names by its key. */
interface NamedRow {
  /** TypeORM's object. It may hold a version, too. */
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

/** If a `save()` sends more updates than this, the after images are read by one statement instead of returned by each update. */
const MOST_RETURNED = 10;
/** The prefix of the aliases of values that a statement returns for an image. */
const RETURNED = 'wh_n';

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
   * On SQLite and MySQL, TypeORM sends the updates of one `save()` concurrently. Here they are sent one after another, so that each sees
   * the rows that the previous one has written. After a failure the remaining statements are not sent, because they could arrive after the
   * ROLLBACK.
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
    // In a shared table the row may belong to another entity than the saved one.
    if (!plan || (isInsert ? !findsKeys(builder, plan.definition) : !rows)) {
      return this.options.byCriteria(builder, run, (changes) => images.recorded(changes));
    }
    const statement = { builder, run, runner: saving.queryRunner, plan, images };
    return this.options.log.writesOf(saving.queryRunner).statements.run(() => {
      images.countOwn();
      if (!rows) return this.insert(statement);
      return queryType === 'delete' ? this.remove(statement, rows) : this.update(statement, rows[0] as NamedRow);
    });
  }

  private async insert(statement: SavedStatement): Promise<unknown> {
    const { builder, runner, plan } = statement;
    const { definition } = plan;
    const sets = setsOf(builder.expressionMap);
    // Take the values before the statement is sent: afterwards TypeORM completes the sets with values from the database.
    const sent = canUseSentValues(definition) ? sets.map((set) => insertedValues(definition, set)) : null;
    let isSent = false;
    try {
      const result = (await this.send(statement, ({ affected }) => {
        isSent = affected !== 0;
      })) as InsertResult;
      if (!isSent) return result;
      const changes = sets.map((_, n): RowChange => {
        const id = result.identifiers[n];
        if (!id) throw rowsUnknown(definition);
        const key = rowKey(definition, id);
        const values = sent?.[n];
        const row: InsertedRow = { key, entity: sets[n] as ObjectLiteral, generated: result.generatedMaps[n] ?? {} };
        const image = values ? insertedImage(plan, values, row, dataSourceOf(runner)) : null;
        return this.change('created', statement, idOf(definition, id), key, null, image);
      });
      isSent = false;
      await this.record(statement, changes);
      return result;
    } catch (error) {
      // The rows are inserted, but their keys are unknown.
      if (isSent && this.options.log.isOpen(runner)) this.options.log.refuse(runner, plan, error);
      throw error;
    }
  }

  private async update(statement: SavedStatement, row: NamedRow): Promise<unknown> {
    const action = ACTIONS[statement.builder.expressionMap.queryType] as EntityAction;
    const before = await this.beforeUpdate(statement, action, row);
    const returned = this.returnImage(statement);
    return this.send(statement, (result) => {
      // The row does not exist, or another writer has deleted or restored it before.
      if (result.affected === 0) return undefined;
      const image = returned?.(result) ?? null;
      return this.record(statement, [this.change(action, statement, row.id, row.key, before, image)]);
    });
  }

  /** On PostgreSQL the update returns its after image, unless the `save()` sends so many updates that one later read is cheaper. */
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

  /** The before image of an update. It is built before the statement is sent, because the `owner` function of the application may throw. */
  private async beforeUpdate(
    { builder, plan, images }: SavedStatement,
    action: EntityAction,
    { identifier, id, key }: NamedRow,
  ): Promise<Before | null> {
    const { definition } = plan;
    if (action !== 'updated') {
      // No image is needed: the condition of the statement checks the delete date, so the affected count shows whether the row changed.
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
      if (written > found.size) {
        const error = rowsMissed(plan.definition.metadata.name, found.size, written);
        if (this.options.log.isOpen(runner)) this.options.log.refuse(runner, plan, error);
        throw error;
      }
      // A trigger has prevented some deletes, or (without a transaction) another writer has deleted rows before.
      const ids = rows.map(({ id }) => id);
      const kept = written < found.size ? await readRows(runner, plan, ids) : null;
      const changes = rows.flatMap(({ id, key }) => {
        const image = kept?.has(key) ? undefined : found.get(key);
        // A row that is named twice was deleted once.
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

  /** Runs a statement and captures it as soon as the database has answered, because a read of TypeORM after the statement may fail. */
  private async send(
    { builder, run, runner, plan }: SavedStatement,
    capture: (result: StatementAnswer) => Promise<void> | void,
  ): Promise<unknown> {
    if (!readsAfter(builder, plan)) {
      const result = await run(builder);
      await capture(answerOf(builder, result));
      return result;
    }
    builder.queryRunner = sendingThrough(runner, async (text, parameters) => {
      const result = (await runner.query(text, parameters, true)) as unknown as BuilderResult;
      await capture(result);
      return result;
    });
    return run(builder);
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

  private record({ runner, images }: SavedStatement, changes: readonly RowChange[]): Promise<void> | void {
    images.recorded(changes);
    return this.options.log.record(runner, changes);
  }
}

/** Whether TypeORM reads columns by another statement after this one, because the driver does not return them. */
function readsAfter({ expressionMap: { queryType, updateEntity } }: WriteBuilder, plan: EntityPlan): boolean {
  if (!updateEntity || queryType === 'delete') return false;
  return queryType === 'insert' ? plan.isReadAfterInsert : plan.isReadAfterUpdate;
}

/**
 * The result of a statement. If an INSERT on PostgreSQL should return rows and returns none, a trigger has prevented it. Other statements
 * report the affected rows.
 */
function answerOf({ expressionMap }: WriteBuilder, result: unknown): StatementAnswer {
  const { affected, raw } = result as StatementAnswer;
  const isKeptOut = expressionMap.extraReturningColumns.length > 0 && Array.isArray(raw) && raw.length === 0;
  return { affected: affected ?? (isKeptOut ? 0 : undefined), raw };
}

/** Whether TypeORM knows the keys after an INSERT. It does not with `reload: false`, nor for keys that only the database can compute. */
function findsKeys({ expressionMap }: WriteBuilder, { metadata }: EntityDefinition): boolean {
  if (!expressionMap.updateEntity) return false;
  const given = metadata.primaryColumns.filter(({ isGenerated }) => !isGenerated);
  return given.every((column) => setsOf(expressionMap).every((set) => isValue(column.getEntityValue(set))));
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
    // TypeORM adds a version to the identifier, which must not become part of the key.
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
