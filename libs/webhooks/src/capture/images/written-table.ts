import type { DataSource, EntityMetadata, ObjectLiteral, QueryRunner } from 'typeorm';
import type { RowImage } from '../../entities/entity-definition.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { idOfImage, type ImageSelect, type SelectedColumn, type ValueSource } from '../plans/image-select.js';
import { readRows } from './row-reader.js';
import { kindsInTable } from '../../entities/single-table.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { WriteExpression } from '../typeorm/write-builder.js';
import { escapedPath } from '../../dialect.js';

/** A row that a statement returned: the plan of its entity, and its image. */
export interface ReadRow {
  readonly plan: EntityPlan;
  readonly image: RowImage;
}

type Row = Readonly<Record<string, unknown>>;

/** The escaped path of the table of an entity, for use in a statement. */
export function tableName({ tablePath }: EntityMetadata, { driver }: DataSource): string {
  return escapedPath(tablePath, driver);
}

/** The table that a statement writes, and the captured entities whose rows the table may hold. */
export class WrittenTable {
  private readonly selects: readonly ImageSelect[];
  private readonly discriminator: EntityMetadata['columns'][number] | undefined;
  /** Whether a statement can return whole images. Otherwise the statement returns keys, and {@link complete} reads the rows. */
  readonly isWhole: boolean;
  /** Whether the table holds rows of several entities (single-table inheritance). */
  readonly isShared: boolean;
  /** The same table, for images of rows that a statement notes while the statement runs. */
  readonly noted: WrittenTable;

  constructor(
    readonly metadata: EntityMetadata,
    /** Several plans if the table holds rows of several entities. */
    readonly plans: readonly EntityPlan[],
    private readonly dataSource: DataSource,
    isNoted = false,
  ) {
    this.selects = plans.map(({ select, notedSelect }) => (isNoted ? notedSelect : select));
    this.noted = isNoted ? this : new WrittenTable(metadata, plans, dataSource, true);
    this.isWhole = this.selects.every(({ isWhole }) => isWhole);
    this.discriminator = metadata.discriminatorColumn;
    this.isShared = kindsInTable(metadata).length > 1;
  }

  /** The escaped path of the table, for use in a statement. */
  get name(): string {
    return tableName(this.metadata, this.dataSource);
  }

  isCaptured({ queryType, onUpdate }: WriteExpression): boolean {
    switch (queryType) {
      case 'insert':
        return this.has('created') || (onUpdate !== undefined && this.has('updated'));
      case 'update':
        return this.has('updated');
      case 'delete':
      case 'soft-delete':
        return this.has('deleted');
      case 'restore':
        return this.has('restored');
      default:
        return false;
    }
  }

  /** Whether at least one entity of the table captures this action. */
  has(action: EntityAction): boolean {
    return this.plans.some(({ definition }) => definition.needs(action));
  }

  /** The select or RETURNING list for the images of rows. */
  list(prefix: string, source: ValueSource): string {
    const { driver } = this.dataSource;
    const names = this.valueNames(prefix);
    return this.values(source)
      .map((value, n) => `${value} AS ${driver.escape(names[n] ?? '')}`)
      .join(', ');
  }

  /** The values of {@link list}, without aliases. */
  values(source: ValueSource): string[] {
    const kind = this.kindColumn;
    const values = this.selects.flatMap((select) => select.values(source));
    if (kind) values.push(typeof source === 'string' ? source + kind.name : source(kind));
    return values;
  }

  /** Builds the row that {@link list} would return from the values of {@link values}. */
  rowOf(prefix: string, values: readonly unknown[]): Row {
    return Object.fromEntries(this.valueNames(prefix).map((name, n) => [name, values[n]]));
  }

  /** Every column of the table that {@link list} uses. Each column occurs once. */
  get columns(): SelectedColumn[] {
    const all = [...this.selects.flatMap(({ columns }) => columns), ...(this.kindColumn ? [this.kindColumn] : [])];
    return [...new Map(all.map((column) => [column.databaseName, column])).values()];
  }

  /** The aliases of {@link list}, qualified with the name of the row source that selected them. */
  names(prefix: string, qualifier: string): string {
    const { driver } = this.dataSource;
    return this.valueNames(prefix)
      .map((name) => qualifier + driver.escape(name))
      .join(', ');
  }

  private valueNames(prefix: string): string[] {
    const names = this.selects.flatMap((select, n) => select.names(`${prefix}${n}_`));
    return this.discriminator ? [...names, `${prefix}kind`] : names;
  }

  /**
   * Builds the image of a returned row; `null` for a row of an entity that is not captured.
   *
   * @param kind the discriminator in a single table. An update may change the discriminator. In this case the before image has the columns
   * of the new entity
   */
  read(runner: QueryRunner, row: Row, prefix: string, kind = this.kindIn(row, prefix)): ReadRow | null {
    const n = this.indexOf(kind);
    const plan = this.plans[n];
    const select = this.selects[n];
    return plan && select ? { plan, image: select.image(runner, row, select.names(`${prefix}${n}_`)) } : null;
  }

  /** The discriminator of a returned row; `undefined` outside a single table. */
  kindIn(row: Row, prefix: string): unknown {
    return row[`${prefix}kind`];
  }

  /** Returns whole images. If the statement could return only keys, this method reads the rows again and leaves out deleted rows. */
  async complete(runner: QueryRunner, rows: readonly ReadRow[]): Promise<ReadRow[]> {
    if (this.isWhole) return [...rows];
    const found: ReadRow[] = [];
    for (const plan of this.plans) {
      const own = rows.filter((row) => row.plan === plan);
      const ids = own.map(({ image }) => idOfImage(plan.definition, image));
      for (const image of (await this.imagesNow(runner, plan, ids)).values()) found.push({ plan, image });
    }
    return found;
  }

  /** Reads the current images of rows of one entity, by key. In a transaction the rows are locked. */
  imagesNow(runner: QueryRunner, plan: EntityPlan, ids: readonly ObjectLiteral[]): Promise<Map<string, RowImage>> {
    return readRows(runner, plan, ids, runner.isTransactionActive ? 'update' : 'none');
  }

  private get kindColumn(): SelectedColumn | undefined {
    const column = this.discriminator;
    if (!column) return undefined;
    const { databaseName } = column;
    return { databaseName, name: this.dataSource.driver.escape(databaseName), column };
  }

  private indexOf(kind: unknown): number {
    if (!this.discriminator) return 0;
    return this.plans.findIndex(({ definition: { metadata } }) => String(metadata.discriminatorValue) === String(kind));
  }
}
