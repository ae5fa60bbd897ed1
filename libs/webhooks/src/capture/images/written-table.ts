import type { DataSource, EntityMetadata, ObjectLiteral, QueryRunner } from 'typeorm';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { lastingExpression } from './exact-expression.js';
import { idOfImage, ImageSelect, type SelectedColumn, type ValueSource } from './image-select.js';
import { imageSelectOf, readRows } from './row-reader.js';
import { kindsInTable } from '../../entities/single-table.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import type { WriteExpression } from '../typeorm/write-builder.js';
import { escapedPath } from '../../dialect.js';

/** A row as a statement gave it: which entity it is, and its image. */
export interface ReadRow {
  readonly definition: EntityDefinition;
  readonly image: RowImage;
}

type Row = Readonly<Record<string, unknown>>;

/** An entity's table as a statement names it. */
export function tableName({ tablePath }: EntityMetadata, { driver }: DataSource): string {
  return escapedPath(tablePath, driver);
}

/** The table of an entity that is written, with the entities whose rows may stand in it. */
export class WrittenTable {
  private readonly selects: readonly ImageSelect[];
  private notedTwin: WrittenTable | undefined;
  private readonly discriminator: EntityMetadata['columns'][number] | undefined;
  /** Whether a statement can give whole images; otherwise it gives keys, and {@link complete} reads the rows. */
  readonly isWhole: boolean;
  /** Whether its rows may be of other entities, too: those of a single table. */
  readonly isShared: boolean;

  constructor(
    readonly metadata: EntityMetadata,
    /** More than one in a single table of several entities. */
    readonly definitions: readonly EntityDefinition[],
    private readonly dataSource: DataSource,
    isNoted = false,
  ) {
    this.selects = definitions.map((definition) =>
      isNoted ? ImageSelect.noted(definition, dataSource, lastingExpression) : imageSelectOf(definition, dataSource),
    );
    this.isWhole = this.selects.every(({ isWhole }) => isWhole);
    this.discriminator = metadata.discriminatorColumn;
    this.isShared = kindsInTable(metadata).length > 1;
  }

  /** The table as a statement names it. */
  get name(): string {
    return tableName(this.metadata, this.dataSource);
  }

  /** The same table, for images of rows that a statement notes while it runs. */
  get noted(): WrittenTable {
    this.notedTwin ??= new WrittenTable(this.metadata, this.definitions, this.dataSource, true);
    return this.notedTwin;
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

  /** Whether an action on any of its rows has to be known. */
  has(action: EntityAction): boolean {
    return this.definitions.some((definition) => definition.needs(action));
  }

  /** What a statement selects or returns for the images of its rows. */
  list(prefix: string, source: ValueSource): string {
    const { driver } = this.dataSource;
    const names = this.valueNames(prefix);
    return this.values(source)
      .map((value, n) => `${value} AS ${driver.escape(names[n] ?? '')}`)
      .join(', ');
  }

  /** The values of {@link list}, without their names. */
  values(source: ValueSource): string[] {
    const kind = this.kindColumn;
    const values = this.selects.flatMap((select) => select.values(source));
    if (kind) values.push(typeof source === 'string' ? source + kind.name : source(kind));
    return values;
  }

  /** A row as {@link list} would give it, of its {@link values}. */
  rowOf(prefix: string, values: readonly unknown[]): Row {
    return Object.fromEntries(this.valueNames(prefix).map((name, n) => [name, values[n]]));
  }

  /** Every column of the table that {@link list} takes a value from, once. */
  get columns(): SelectedColumn[] {
    const all = [...this.selects.flatMap(({ columns }) => columns), ...(this.kindColumn ? [this.kindColumn] : [])];
    return [...new Map(all.map((column) => [column.databaseName, column])).values()];
  }

  /** The names of {@link list}, of a row source that has selected it. */
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

  /** `null` for a row of an entity that tells nothing. */
  read(runner: QueryRunner, row: Row, prefix: string): ReadRow | null {
    const n = this.indexOf(row[`${prefix}kind`]);
    const definition = this.definitions[n];
    const image = this.selects[n]?.image(runner, row, `${prefix}${n}_`);
    return definition && image ? { definition, image } : null;
  }

  /** Whole images of rows, read once more where a statement could give their keys only. Rows that are gone are left out. */
  async complete(runner: QueryRunner, rows: readonly ReadRow[]): Promise<ReadRow[]> {
    if (this.isWhole) return [...rows];
    const found: ReadRow[] = [];
    for (const definition of this.definitions) {
      const own = rows.filter((row) => row.definition === definition);
      const ids = own.map(({ image }) => idOfImage(definition, image));
      for (const image of (await this.imagesNow(runner, definition, ids)).values()) found.push({ definition, image });
    }
    return found;
  }

  /** Rows of one entity as they are now, locked, by their key. */
  imagesNow(
    runner: QueryRunner,
    definition: EntityDefinition,
    ids: readonly ObjectLiteral[],
  ): Promise<Map<string, RowImage>> {
    return readRows(runner, definition, ids, runner.isTransactionActive ? 'update' : 'none');
  }

  private get kindColumn(): SelectedColumn | undefined {
    const column = this.discriminator;
    if (!column) return undefined;
    const { databaseName } = column;
    return { databaseName, name: this.dataSource.driver.escape(databaseName), column };
  }

  private indexOf(kind: unknown): number {
    if (!this.discriminator) return 0;
    return this.definitions.findIndex(({ metadata }) => String(metadata.discriminatorValue) === String(kind));
  }
}
