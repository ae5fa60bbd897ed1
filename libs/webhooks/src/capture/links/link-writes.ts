import type { DataSource, EntityMetadata, ObjectLiteral, QueryRunner } from 'typeorm';
import { dialectOf, escapedPath } from '../../dialect.js';
import { chunks } from '../../store/database/chunks.js';
import { changesOf, noteRows, type NotedRow } from '../statements/rows-before.js';
import { ROWS_PER_BATCH } from '../statements/read-affected.js';
import { rowsMissed } from '../statements/affected-rows.js';
import type { CapturedWrite, ChangeLog } from '../statements/captured-write.js';
import type { LinkOwners } from '../../entities/entity-registry.js';
import { CaptureError } from '../../entities/errors.js';
import { JunctionColumns, referredType } from '../images/junction-columns.js';
import { referredPath } from '../../entities/foreign-keys.js';
import { ownerText } from '../images/links.js';
import { rowKey } from '../images/row-reader.js';
import type { SavedRowImages } from '../statements/saved-row-images.js';
import { kindsInTable, rootOf } from '../../entities/single-table.js';
import type { RowChange } from '../changes/row-change.js';
import type { Transaction } from '../transactions/transaction-log.js';
import type { Saving, WriteBuilder } from '../typeorm/write-builder.js';
import { dataSourceOf, escapeParameters } from '../../typeorm-compat.js';

/**
 * The maximum number of rows that one statement reads. PostgreSQL takes 65,535 parameters, SQLite takes 32,766, and a key may have several
 * columns.
 */
const OWNERS_PER_READ = 500;

export interface LinkWritesOptions {
  readonly dataSource: DataSource;
  readonly log: ChangeLog;
  /** Runs the work in the transaction of the caller, or in a new transaction. */
  inTransaction<T>(given: QueryRunner | undefined, work: (runner: QueryRunner) => Promise<T>): Promise<T>;
  /** `undefined` for an entity that is not captured. */
  writeOf(builder: WriteBuilder, runner: QueryRunner, metadata: EntityMetadata): CapturedWrite | undefined;
  /** The before images of the rows that a `save()` writes. */
  imagesOf(saving: Saving): SavedRowImages;
}

/** A row that owns links. */
interface Owner {
  /** The text of the owner's primary key, in the form of `rowKey`. */
  readonly text: string;
  /** The owner's primary key, as parameters. */
  readonly key: readonly unknown[];
}

/** The before images of owning rows, read before the first statement on the links of these rows. */
interface Noted {
  /** The keys are the texts of the primary keys. */
  readonly owners: Map<LinkOwners, Map<string, NotedRow>>;
  /** The transaction in which the images were read. */
  readonly transaction: Transaction | null;
}

/**
 * Captures a write to the junction of a `@JoinTable` as an update of the rows that own the links. The entity of these rows must name the
 * relation in `fields`. The owning rows and their links are read and locked before the statement, and read again after the statement.
 *
 * A `save()` or `remove()` writes links by several statements. The call also writes some owning rows by statements on their own table. The
 * events of these statements contain the links. The updates of the other owning rows are recorded at the end of the `save()` or `remove()`.
 */
export class LinkWrites {
  private readonly noted = new WeakMap<Saving, Noted>();

  constructor(private readonly options: LinkWritesOptions) {}

  async execute(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    owners: readonly LinkOwners[],
    saving: Saving | undefined,
  ): Promise<unknown> {
    if (saving) {
      if (saving.firesListeners) await this.noteSaved(builder, saving, owners);
      return run(builder);
    }
    // As for every captured statement, run a copy of the builder. The copy gets the query runner of the transaction.
    const copy = builder.clone();
    return this.options.inTransaction(builder.queryRunner, async (runner) => {
      copy.queryRunner = runner;
      copy.expressionMap.useTransaction = false;
      const noted = this.newNoted(runner);
      let links = Infinity;
      for (const one of owners) links = await this.note(copy, runner, one, noted, new Set());
      const result = await this.runNoted(copy, run, runner, noted);
      const { affected } = result as { affected?: number | null };
      // Another writer has added a link after the owners were read, so the owning row of this link was not read.
      if (affected != null && affected > links)
        throw rowsMissed(copy.expressionMap.mainAlias?.metadata.name ?? '', links, affected);
      await this.recordNoted(runner, noted, () => false);
      return result;
    });
  }

  async saved(saving: Saving): Promise<void> {
    const noted = this.noted.get(saving);
    if (!noted) return;
    this.noted.delete(saving);
    await this.recordOrRefuse(saving.queryRunner, noted, (owners, text) => writtenOwners(saving, owners).has(text));
  }

  /** Runs a statement on links. If a hook fails after the statement, the links may be written, so their owning rows are recorded. */
  private async runNoted(
    builder: WriteBuilder,
    run: (builder: WriteBuilder) => Promise<unknown>,
    runner: QueryRunner,
    noted: Noted,
  ): Promise<unknown> {
    try {
      return await run(builder);
    } catch (error) {
      await this.recordOrRefuse(runner, noted, () => false).catch(() => undefined);
      throw error;
    }
  }

  private async recordOrRefuse(
    runner: QueryRunner,
    noted: Noted,
    isRecorded: (owners: LinkOwners, text: string) => boolean,
  ): Promise<void> {
    const { log } = this.options;
    // If the transaction was rolled back, the links are not written.
    if (noted.transaction?.end?.startsWith('rolled back')) return;
    try {
      await this.recordNoted(runner, noted, isRecorded);
    } catch (error) {
      const [row] = [...noted.owners.values()].flatMap((known) => [...known.values()]);
      if (row && log.isOpen(runner)) log.refuse(runner, row.plan, error);
      throw error;
    }
  }

  private newNoted(runner: QueryRunner): Noted {
    return { owners: new Map(), transaction: this.options.log.writesOf(runner).log.current };
  }

  private async noteSaved(builder: WriteBuilder, saving: Saving, owners: readonly LinkOwners[]): Promise<void> {
    let noted = this.noted.get(saving);
    if (!noted) this.noted.set(saving, (noted = this.newNoted(saving.queryRunner)));
    const images = this.options.imagesOf(saving);
    for (const one of owners) {
      // Read the before images now, while the links are unchanged. The statements on the owning rows may run after the links have changed.
      for (const plan of this.writeOf(saving.queryRunner, one)?.table.plans ?? []) {
        if (!plan.definition.linkFields.length) continue;
        await images.lock(plan, 'update');
        await images.lock(plan, 'delete');
      }
      await this.note(builder, saving.queryRunner, one, noted, writtenOwners(saving, one), images.linking);
    }
  }

  /**
   * Reads and locks the rows whose links a statement will write. Skips rows that are noted already.
   *
   * @param captured the key texts of rows that are captured by their own statements
   * @param unsettled changes whose after images are read later
   * @returns the number of links that the statement may change
   * @throws CaptureError `LINKS_UNKNOWN`
   */
  private async note(
    builder: WriteBuilder,
    runner: QueryRunner,
    owners: LinkOwners,
    noted: Noted,
    captured: ReadonlySet<string>,
    unsettled?: ReadonlySet<RowChange>,
  ): Promise<number> {
    await this.options.log.settle(runner, owners.metadata, unsettled);
    const { found, links } = await ownersOf(builder, runner, owners);
    let known = noted.owners.get(owners);
    if (!known) noted.owners.set(owners, (known = new Map()));
    const wanted = [...new Map(found.map((owner) => [owner.text, owner.key]))];
    const unknown = wanted.filter(([text]) => !known.has(text) && !captured.has(text));
    for (const some of chunks(unknown, OWNERS_PER_READ)) {
      const write = this.writeOf(runner, owners);
      if (!write) continue;
      const keys = some.map(([, key]) => key);
      for (const row of await noteRows(write, keys)) {
        const { definition } = row.plan;
        if (definition.linkFields.length && definition.needs('updated')) known.set(rowKey(definition, row.id), row);
      }
    }
    return links;
  }

  private async recordNoted(
    runner: QueryRunner,
    noted: Noted,
    isRecorded: (owners: LinkOwners, text: string) => boolean,
  ): Promise<void> {
    for (const [owners, known] of noted.owners) {
      const rows = [...known].filter(([text]) => !isRecorded(owners, text)).map(([, row]) => row);
      const write = this.writeOf(runner, owners);
      if (!write) continue;
      for (const some of chunks(rows, ROWS_PER_BATCH)) {
        const changes = await changesOf(write, 'updated', some);
        await (rows.length > ROWS_PER_BATCH ? write.recordBatch(changes) : write.record(changes));
      }
    }
  }

  /** Returns a captured update of the owning rows. This update sets no column. */
  private writeOf(runner: QueryRunner, { metadata }: LinkOwners): CapturedWrite | undefined {
    const update = this.options.dataSource.createQueryBuilder(runner).update(metadata.target).set({});
    return this.options.writeOf(update as unknown as WriteBuilder, runner, metadata);
  }
}

/** The key texts of the owning rows that a `save()` writes by statements on their own table. */
function writtenOwners({ rows }: Saving, { metadata }: LinkOwners): Set<string> {
  const written = new Set<string>();
  const { insertSubjects, updateSubjects, removeSubjects, softRemoveSubjects, recoverSubjects } = rows;
  for (const row of [insertSubjects, updateSubjects, removeSubjects, softRemoveSubjects, recoverSubjects].flat()) {
    // A statement on a table of several entities is captured by its criteria. Its images do not contain links.
    const isShared = kindsInTable(row.metadata).length > 1 && !insertSubjects.includes(row);
    if (row.identifier && rootOf(row.metadata) === metadata && !isShared) written.add(rowKey(row, row.identifier));
  }
  return written;
}

/** The owners of the links that a statement will write. */
async function ownersOf(
  builder: WriteBuilder,
  runner: QueryRunner,
  { metadata, junction }: LinkOwners,
): Promise<{ found: Owner[]; links: number }> {
  const { driver } = dataSourceOf(runner);
  const ownerOf = (values: ReadonlyMap<string, unknown>): Owner => ({
    text: ownerText(metadata, values),
    key: metadata.primaryColumns.map(
      (column) => driver.preparePersistentValue(values.get(column.propertyPath), referredType(column)) as unknown,
    ),
  });
  const { queryType, valuesSet, insertFromSelect } = builder.expressionMap;
  if (queryType === 'insert') {
    if (insertFromSelect) throw linksUnknown(junction, 'takes its values from a SELECT');
    const sets = builder.getValueSets?.() ?? [];
    return { found: sets.map((set) => ownerOf(writtenValues(builder, junction, set))), links: Infinity };
  }
  const read = await readOwners(builder, runner, junction);
  const found = read.map(({ values }) => ownerOf(values));
  if (queryType === 'update' && valuesSet && !Array.isArray(valuesSet)) {
    const moved = writtenValues(builder, junction, valuesSet);
    if (moved.size) found.push(...read.map(({ values }) => ownerOf(new Map([...values, ...moved]))));
  }
  return { found, links: read.reduce((sum, { links }) => sum + links, 0) };
}

/**
 * The values that a statement sets in the junction columns that reference the owning row, by the paths of the referenced columns.
 *
 * @throws CaptureError `LINKS_UNKNOWN`
 */
function writtenValues(builder: WriteBuilder, junction: EntityMetadata, set: ObjectLiteral): Map<string, unknown> {
  const { queryType, mainAlias } = builder.expressionMap;
  const values = new Map<string, unknown>();
  for (const column of junction.ownerColumns) {
    // The statement may name another entity of the application that maps the same table.
    const written = mainAlias?.metadata.columns.find(({ databaseName }) => databaseName === column.databaseName);
    const value: unknown = written?.getEntityValue(set);
    if (typeof value === 'function' || (value === undefined && queryType === 'insert')) {
      throw linksUnknown(junction, `sets ${column.databaseName} by an expression`);
    }
    if (value !== undefined) values.set(referredPath(column), value);
  }
  return values;
}

function linksUnknown(junction: EntityMetadata, how: string): CaptureError {
  return new CaptureError(
    'LINKS_UNKNOWN',
    `A statement on the junction ${junction.tableName} ${how}, so the owning rows of its links are unknown. Nothing was written. Use values, or run the statement inside webhooks.withoutCapture().`,
    { details: { junction: junction.tableName } },
  );
}

/**
 * The current owners of the links that match the condition of a statement, and the number of links of each owner. On MySQL and MariaDB the
 * read locks, because a plain read would show the links as they were at the start of the transaction.
 */
async function readOwners(
  builder: WriteBuilder,
  runner: QueryRunner,
  junction: EntityMetadata,
): Promise<{ values: Map<string, unknown>; links: number }[]> {
  const { driver, options } = dataSourceOf(runner);
  const columns = new JunctionColumns(junction.ownerColumns, 'wh_o', dataSourceOf(runner));
  const table = escapedPath(junction.tablePath, driver);
  const cte = builder.replacePropertyNamesForTheWholeQuery(builder.createCteExpression());
  const where = builder.replacePropertyNamesForTheWholeQuery(builder.createWhereExpression());
  const names = junction.ownerColumns.map(({ databaseName }) => driver.escape(databaseName)).join(', ');
  const lock = dialectOf(options.type) === 'mysql' ? ' FOR UPDATE' : '';
  const text = `${cte}SELECT ${columns.list}, COUNT(*) AS ${driver.escape('wh_n')} FROM ${table}${where} GROUP BY ${names}${lock}`;
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  const rows = (await runner.query(sql, parameters)) as Record<string, unknown>[];
  return rows.map((row) => ({ values: columns.values(row), links: Number(row['wh_n']) }));
}
