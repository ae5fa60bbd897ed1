import { raw } from 'sql-template-tag';
import type { DataSource, EntityMetadata, ObjectLiteral } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { lastingExpression } from '../../capture/plans/exact-expression.js';
import { keyOfImage, setForeignKeys } from '../../capture/plans/image-select.js';
import type { Database } from '../../store/database/database.js';
import { query } from '../../store/database/script.js';
import { SHADOW_COLUMNS } from './shadow-table.js';
import type { InstalledShadow } from './witness-triggers.js';

/** The change of one row by one statement. The triggers of the witness recorded this change. */
export interface CommittedChange {
  readonly definition: EntityDefinition;
  readonly op: 'insert' | 'update' | 'delete';
  /** The primary key of the row after the change, in the form that events use. */
  readonly key: string;
  /**
   * Identifies the transaction. All changes of one transaction have the same value. `null` on databases whose triggers
   * cannot read a transaction id.
   */
  readonly transaction: string | null;
  readonly old: RowImage | null;
  readonly now: RowImage | null;
}

type ShadowRow = Readonly<Record<string, unknown>>;

/**
 * All changes that a shadow table recorded, in the order in which they happened.
 *
 * @param database the connections of the module. Do not use a connection of the application's pool, because it
 * could still be in a transaction
 */
export async function committedChanges(
  database: Database,
  dataSource: DataSource,
  shadow: InstalledShadow,
): Promise<CommittedChange[]> {
  const reader = new ShadowReader(dataSource, shadow);
  const rows: ShadowRow[] = await database.single(() => query(raw(reader.selection)));
  const changes: CommittedChange[] = [];
  for (let n = 0; n < rows.length; n++) {
    const first = rows[n] as ShadowRow;
    const isUpdate = first.op === 'update';
    const second = isUpdate ? (rows[++n] as ShadowRow) : first;
    const change = reader.changeOf(first, second);
    if (change) changes.push(change);
  }
  return changes;
}

class ShadowReader {
  constructor(
    private readonly dataSource: DataSource,
    private readonly shadow: InstalledShadow,
  ) {}

  get selection(): string {
    const { driver } = this.dataSource;
    const { seq, op, image, transaction } = SHADOW_COLUMNS;
    const columns = this.shadow.table.columns.map((column, n) => {
      const name = driver.escape(column.databaseName);
      const exact = lastingExpression(typedColumn(column), name, this.dataSource);
      return `${exact ?? name} AS c${n}`;
    });
    // The order by image is descending. So `old` comes before `new`.
    return `SELECT ${op} AS op, ${image} AS image, ${transaction} AS transaction_id, ${columns.join(', ')} FROM ${this.shadow.path} ORDER BY ${seq}, ${image} DESC`;
  }

  changeOf(first: ShadowRow, last: ShadowRow): CommittedChange | null {
    const definition = this.definitionOf(last);
    if (!definition) return null;
    const op = first.op as CommittedChange['op'];
    const old = op === 'insert' ? null : this.imageOf(definition, first);
    const now = op === 'delete' ? null : this.imageOf(definition, last);
    const transaction = first.transaction_id;
    return {
      definition,
      op,
      key: ((now ?? old) as RowImage).key,
      transaction: transaction === null ? null : String(transaction as string | number),
      old,
      now,
    };
  }

  /**
   * Returns the definition of the entity of a row. In a single table, the discriminator column decides the entity. An
   * entity without webhooks makes no events.
   */
  private definitionOf(row: ShadowRow): EntityDefinition | undefined {
    const { metadata, definitions, columns } = this.shadow.table;
    const { discriminatorColumn } = metadata;
    // `discriminatorColumn` is undefined outside single-table inheritance, although TypeORM's type says otherwise.
    if (!discriminatorColumn) return definitions[0];
    const kind = row[`c${columns.findIndex(({ databaseName }) => databaseName === discriminatorColumn.databaseName)}`];
    return definitions.find((one) => String(one.metadata.discriminatorValue) === String(kind));
  }

  private imageOf(definition: EntityDefinition, row: ShadowRow): RowImage {
    const { metadata } = definition;
    const valueOf = (column: ColumnMetadata): unknown => {
      const n = this.shadow.table.columns.findIndex(({ databaseName }) => databaseName === column.databaseName);
      return (
        (this.dataSource.driver.prepareHydratedValue(row[`c${n}`] ?? null, typedColumn(column)) as unknown) ?? null
      );
    };
    const entity = metadata.create(undefined, { fromDeserializer: true }) as ObjectLiteral;
    const exact = new Map<string, unknown>();
    for (const column of metadata.columns.filter((one) => !one.isVirtual && !one.isVirtualProperty)) {
      column.setEntityValue(entity, valueOf(column));
      exact.set(column.propertyPath, valueOf(column));
    }
    for (const { propertyPath, joinColumns } of metadata.relations.filter(hasForeignKey)) {
      const parts = joinColumns.map((column) => [column.referencedColumn?.propertyPath, valueOf(column)] as const);
      exact.set(propertyPath, parts.length === 1 ? parts[0]?.[1] : Object.fromEntries(parts));
    }
    setForeignKeys(definition, entity, exact);
    return { key: keyOfImage(definition, entity, exact), entity, exact };
  }
}

/** Returns the column that defines the type. A foreign key column has the type of the column to which it refers. */
function typedColumn(column: ColumnMetadata): ColumnMetadata {
  return column.isVirtual ? (column.referencedColumn ?? column) : column;
}

function hasForeignKey({ isManyToMany, joinColumns }: EntityMetadata['relations'][number]): boolean {
  return !isManyToMany && joinColumns.some(({ isVirtual }) => isVirtual);
}
