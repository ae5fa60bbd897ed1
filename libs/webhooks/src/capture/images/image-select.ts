import type { DataSource, ObjectLiteral, QueryRunner } from 'typeorm';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { hasOwnColumn, isUnset, partOf, typingColumn, withPart } from '../../entities/foreign-keys.js';

/** How a value is selected so that the driver cannot spoil it; `null` where it does not. */
export type ExactOf = (column: ColumnMetadata, value: string, dataSource: DataSource) => string | null;

/** A column of the table that a value is selected from. */
export interface SelectedColumn {
  readonly databaseName: string;
  /** The same, quoted. */
  readonly name: string;
  /** Its type is that of the column pointed to, where it is a foreign key. */
  readonly column: ColumnMetadata;
}

/** The name or alias of a table in a statement, quoted, with its dot; or nothing; or a function that gives the value of a column. */
export type ValueSource = string | ((column: SelectedColumn) => string);

/** One selected value: a column of the entity, or a value that hydration loses. */
interface Selected extends SelectedColumn {
  /** Where it goes in {@link RowImage.exact}; `null` for the entity's own property. */
  readonly exactPath: string | null;
  /** Of a foreign key of several columns: which one. */
  readonly part: ColumnMetadata | null;
}

/** The columns that make the image of a row, in any statement that reads the table or returns its rows. */
export class ImageSelect {
  private constructor(
    private readonly definition: EntityDefinition,
    private readonly selected: readonly Selected[],
    private readonly dataSource: DataSource,
    private readonly exactOf: ExactOf,
    /** Whether the image is whole; otherwise it holds the key only, by which TypeORM's own query builder has to read the row. */
    readonly isWhole: boolean,
  ) {}

  static of(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): ImageSelect {
    return ImageSelect.ofColumns(definition, dataSource, exactOf, false);
  }

  /**
   * The values of a row that a statement notes while it runs, where only the columns of the table are known: all but virtual columns and
   * links.
   */
  static noted(definition: EntityDefinition, dataSource: DataSource, exactOf: ExactOf): ImageSelect {
    return ImageSelect.ofColumns(definition, dataSource, exactOf, true);
  }

  private static ofColumns(
    definition: EntityDefinition,
    dataSource: DataSource,
    exactOf: ExactOf,
    isNoted: boolean,
  ): ImageSelect {
    const { metadata, options } = definition;
    const { driver } = dataSource;
    // A function of the application sees the whole row; otherwise only what goes out is read.
    const readsWholeEntity = options.when !== undefined || typeof options.owner === 'function';
    const needed = new Set<ColumnMetadata>([
      ...metadata.primaryColumns,
      ...definition.columnsNeeded,
      ...definition.hiddenColumnsNeeded,
    ]);
    const columns = metadata.columns.filter(
      (column) =>
        !column.isVirtual &&
        !(isNoted && column.isVirtualProperty) &&
        (needed.has(column) || (readsWholeEntity && column.isSelect)),
    );
    // Spatial and virtual columns are read by expressions of TypeORM's, and links in another table.
    const isWhole =
      isNoted ||
      (!definition.linkFields.length &&
        !columns.some((column) => column.isVirtualProperty || driver.spatialTypes.includes(column.type)));
    const keys = new Set(metadata.primaryColumns.map((column) => column.relationMetadata));
    const relations = metadata.relations.filter(
      (relation) =>
        hasOwnColumn(relation) &&
        (readsWholeEntity || keys.has(relation) || definition.relationsNeeded.includes(relation)),
    );

    const selected: Selected[] = [];
    for (const column of columns.filter(({ isPrimary }) => isWhole || isPrimary)) {
      const { databaseName, propertyPath } = column;
      const name = driver.escape(databaseName);
      selected.push({ databaseName, name, column, exactPath: null, part: null });
      if (needed.has(column) && exactOf(column, name, dataSource) !== null) {
        selected.push({ databaseName, name, column, exactPath: propertyPath, part: null });
      }
    }
    // Hydration leaves a foreign key out.
    for (const { joinColumns, propertyPath } of relations.filter((relation) => isWhole || keys.has(relation))) {
      for (const join of joinColumns) {
        const part = joinColumns.length > 1 ? join : null;
        const column = typingColumn(join);
        const { databaseName } = join;
        selected.push({ databaseName, name: driver.escape(databaseName), column, exactPath: propertyPath, part });
      }
    }
    return new ImageSelect(definition, selected, dataSource, exactOf, isWhole);
  }

  /**
   * What to select, separated by commas.
   *
   * @param prefix of the names that the values get
   */
  list(prefix: string, source: ValueSource): string {
    const { driver } = this.dataSource;
    return this.values(source)
      .map((value, n) => `${value} AS ${driver.escape(`${prefix}${n}`)}`)
      .join(', ');
  }

  /** The values of {@link list}, without their names. */
  values(source: ValueSource): string[] {
    return this.selected.map((selected) => {
      const { name, column, exactPath } = selected;
      const value = typeof source === 'string' ? source + name : source(selected);
      return (exactPath === null ? null : this.exactOf(column, value, this.dataSource)) ?? value;
    });
  }

  /** The columns of the table that the values come from. */
  get columns(): readonly SelectedColumn[] {
    return this.selected;
  }

  /** The names of {@link list}. */
  names(prefix: string): string[] {
    return this.selected.map((_, n) => `${prefix}${n}`);
  }

  /** The image of a row, of what {@link list} selected. */
  image(runner: QueryRunner, row: Readonly<Record<string, unknown>>, prefix: string): RowImage {
    const { definition, selected } = this;
    const { driver } = this.dataSource;
    const entity = definition.metadata.create(runner, { fromDeserializer: true });
    const exact = new Map<string, unknown>();
    for (const [n, { column, exactPath, part }] of selected.entries()) {
      const value: unknown = driver.prepareHydratedValue(row[`${prefix}${n}`] ?? null, column) ?? null;
      if (exactPath === null) column.setEntityValue(entity, value);
      else if (part === null) exact.set(exactPath, value);
      else exact.set(exactPath, withPart(exact.get(exactPath), part, value));
    }
    setForeignKeys(definition, entity, exact);
    return { key: keyOfImage(definition, entity, exact), entity, exact };
  }
}

/** `order.customer.id` is there for the application's functions, as it is in what TypeORM loads before a write. */
export function setForeignKeys(
  { metadata }: EntityDefinition,
  entity: ObjectLiteral,
  values: ReadonlyMap<string, unknown>,
): void {
  for (const relation of metadata.relations) {
    const value = values.get(relation.propertyPath);
    if (value === undefined || relation.isLazy) continue;
    const [join, ...others] = relation.joinColumns;
    const isNone = value === null || (others.length > 0 && isUnset(relation, value));
    const other: unknown = others.length ? value : join?.referencedColumn?.createValueMap(value);
    relation.setEntityValue(entity, isNone ? null : other);
  }
}

/** The text of a row's primary key, as `rowKey` gives that of an entity. */
export function keyOfImage(
  definition: EntityDefinition,
  entity: ObjectLiteral,
  exact: ReadonlyMap<string, unknown>,
): string {
  return JSON.stringify(
    definition.metadata.primaryColumns.map((column) => keyText(keyValue(column, entity, exact), column)),
  );
}

/** The primary key of a row, as it is read by and as TypeORM names it; digits that a driver loses are in it. */
export function idOfImage({ metadata }: EntityDefinition, { entity, exact }: RowImage): ObjectLiteral {
  const id: ObjectLiteral = {};
  for (const column of metadata.primaryColumns) {
    const value = keyValue(column, entity, exact);
    const { relationMetadata: relation, referencedColumn } = column;
    if (!relation || !column.isVirtual) column.setEntityValue(id, value);
    else if (relation.joinColumns.length > 1) relation.setEntityValue(id, exact.get(relation.propertyPath));
    else relation.setEntityValue(id, referencedColumn?.createValueMap(value));
  }
  return id;
}

/** One column of a row's primary key, as the application knows it. */
export function keyValue(column: ColumnMetadata, entity: ObjectLiteral, exact: ReadonlyMap<string, unknown>): unknown {
  const { relationMetadata: relation } = column;
  if (!relation || !column.isVirtual) {
    return exact.get(column.propertyPath) ?? (column.getEntityValue(entity) as unknown);
  }
  const value = exact.get(relation.propertyPath);
  if (relation.joinColumns.length === 1) return value ?? (column.getEntityValue(entity) as unknown);
  return partOf(value, column);
}
