import type { DataSource, EntityMetadata } from 'typeorm';
import type { CapturedWrite } from './captured-write.js';
import { hideColons, showColons } from './hidden-colons.js';
import { keyValue } from '../plans/image-select.js';
import { isOneOf } from '../images/links.js';
import type { WriteBuilder } from '../typeorm/write-builder.js';
import type { ReadRow } from '../images/written-table.js';
import { dataSourceOf, escapeParameters } from '../../typeorm-compat.js';

/** The number of rows whose images are in memory at the same time. A statement that writes more rows is captured batch by batch. */
export const ROWS_PER_BATCH = 1_000;

export interface AffectedRow {
  readonly row: ReadRow | null;
  /** The primary key, as parameters. */
  readonly key: readonly unknown[];
}

/** Reads and locks the rows that a statement will write. */
export async function readAffected(
  write: CapturedWrite,
  { isDelete, limit, after }: { isDelete: boolean; limit: number; after?: readonly unknown[] },
): Promise<AffectedRow[]> {
  const { builder, table, runner, dialect } = write;
  const { driver } = dataSourceOf(runner);
  const keys = keyNames(write);
  let where = conditionOf(write);
  let end = '';
  if (hasOwnLimit(write) || after === undefined) {
    const order = builder.createOrderByExpression?.() ?? '';
    end = builder.replacePropertyNamesForTheWholeQuery(order);
    end += hasOwnLimit(write) ? (builder.createLimitExpression?.() ?? '') : '';
  }
  if (!hasOwnLimit(write)) {
    if (after !== undefined) {
      if (after.length) {
        const beyond = `(${keys.join(', ')}) > (${after.map((value) => builder.createParameter(value)).join(', ')})`;
        where = where ? ` WHERE (${where.slice(' WHERE '.length)}) AND ${beyond}` : ` WHERE ${beyond}`;
      }
      end = ` ORDER BY ${keys.join(', ')}`;
    }
    end += ` LIMIT ${limit}`;
  }
  const lock = { sqlite: '', mysql: ' FOR UPDATE', postgres: ` FOR ${isDelete ? '' : 'NO KEY '}UPDATE` }[dialect];
  const cte = builder.replacePropertyNamesForTheWholeQuery(builder.createCteExpression());
  const list = [
    ...keys.map((key, n) => `${key} AS ${driver.escape(`wh_k${n}`)}`),
    hideColons(table.list('wh_o', '')),
  ].join(', ');
  const text = `${cte}SELECT ${list} FROM ${table.name}${where}${end}${lock}`;
  const [sql, parameters] = escapeParameters(dataSourceOf(runner), text, builder.getParameters());
  const rows = (await runner.query(showColons(sql), parameters)) as Record<string, unknown>[];
  const kind = kindAfter(write);
  return rows.map((row) => {
    const read = table.read(runner, row, 'wh_o', kind);
    return {
      row: read,
      key: table.metadata.primaryColumns.map((column, n) => {
        if (!read) return row[`wh_k${n}`];
        const value = keyValue(column, read.image.entity, read.image.exact);
        return driver.preparePersistentValue(value, column.referencedColumn ?? column) as unknown;
      }),
    };
  });
}

export function readRowsOf(rows: readonly AffectedRow[]): ReadRow[] {
  return rows.flatMap(({ row }) => row ?? []);
}

/**
 * The condition of the builder. For a soft delete, the condition also requires that the row is not deleted yet. For a restore, the
 * condition requires that the row is deleted.
 */
export function conditionOf({ builder, runner, table }: CapturedWrite): string {
  const { queryType, wheres } = builder.expressionMap;
  const isSoft = table.metadata.deleteDateColumn !== undefined && ['soft-delete', 'restore'].includes(queryType);
  if (isSoft) {
    wheres.push({ type: 'and', condition: changesDeletion(dataSourceOf(runner), table.metadata, queryType) });
  }
  const where = builder.replacePropertyNamesForTheWholeQuery(builder.createWhereExpression());
  // Remove the condition again. TypeORM 1.x adds the condition itself. TypeORM 0.3 does not add the condition, but the statement of TypeORM
  // 0.3 is restricted to the rows that are read here.
  if (isSoft) wheres.pop();
  return where;
}

/** Adds the condition that TypeORM 1.x adds to a soft delete or a restore. */
export function onlyOnce(builder: WriteBuilder, metadata: EntityMetadata): void {
  const { queryType, wheres } = builder.expressionMap;
  wheres.push({ type: 'and', condition: changesDeletion(dataSourceOf(builder), metadata, queryType) });
}

/** The condition that makes a soft delete match only rows that are not deleted, and a restore only rows that are deleted. */
function changesDeletion({ driver }: DataSource, { deleteDateColumn }: EntityMetadata, queryType: string): string {
  return `${driver.escape(deleteDateColumn?.databaseName ?? '')} IS ${queryType === 'restore' ? 'NOT NULL' : 'NULL'}`;
}

export const COMPOSED = ['createWhereExpression', 'createOrderByExpression', 'createLimitExpression'] as const;

export function restrictTo({ builder }: CapturedWrite, where: string): void {
  builder.createWhereExpression = () => where;
  // The rows are already selected, so ORDER BY and LIMIT no longer apply.
  if (builder.createOrderByExpression) builder.createOrderByExpression = () => '';
  if (builder.createLimitExpression) builder.createLimitExpression = () => '';
}

export function hasOwnLimit({ builder }: CapturedWrite): boolean {
  return Boolean(builder.expressionMap.limit);
}

export function keyNames({ table, runner }: CapturedWrite): string[] {
  const { driver } = dataSourceOf(runner);
  return table.metadata.primaryColumns.map(({ databaseName }) => hideColons(driver.escape(databaseName)));
}

export function keyCondition(write: CapturedWrite, keys: readonly (readonly unknown[])[]): string {
  const { builder, runner } = write;
  const tuples = keys.map((key) => key.map((value) => builder.createParameter(value)).join(', '));
  return isOneOf(keyNames(write), tuples, dataSourceOf(runner));
}

/**
 * The discriminator that an update sets in a single table. `undefined` if the update sets no discriminator, or sets it by an expression.
 */
function kindAfter({ builder, table }: CapturedWrite): unknown {
  const { queryType, valuesSet } = builder.expressionMap;
  const { discriminatorColumn } = table.metadata;
  if (queryType !== 'update' || !valuesSet || !discriminatorColumn) return undefined;
  const kind: unknown = discriminatorColumn.getEntityValue(valuesSet);
  return typeof kind === 'function' ? undefined : kind;
}

/** Reads and locks the affected rows batch by batch, in the order of their keys. @returns the number of rows */
export async function eachBatch(
  write: CapturedWrite,
  isDelete: boolean,
  take: (batch: readonly ReadRow[]) => Promise<void> | void,
): Promise<number> {
  let count = 0;
  let after: readonly unknown[] = [];
  for (;;) {
    const rows = await readAffected(write, { isDelete, limit: ROWS_PER_BATCH, after });
    count += rows.length;
    await take(await write.table.complete(write.runner, readRowsOf(rows)));
    const last = rows.at(-1);
    if (!last || rows.length < ROWS_PER_BATCH) return count;
    after = last.key;
  }
}
