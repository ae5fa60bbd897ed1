import type { DataSource, ObjectLiteral, QueryRunner } from 'typeorm';
import { keyText, type ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { isUnset, partOf, typingColumn, withPart } from '../../entities/foreign-keys.js';
import { lastingExpression } from './exact-expression.js';
import type { ImageColumns } from './image-columns.js';

/** A column from which a value is selected. */
export interface SelectedColumn {
  readonly databaseName: string;
  /** The `databaseName`, quoted. */
  readonly name: string;
  /** The column that gives the type. For a foreign key, this is the referenced column. */
  readonly column: ColumnMetadata;
}

/**
 * The source of selected values. A text is the quoted name or alias of a table with its dot, or an empty string. A function returns the SQL
 * value of a column.
 */
export type ValueSource = string | ((column: SelectedColumn) => string);

/** One selected value: a column of the entity, or the exact form of a value that hydration changes or drops. */
interface Selected extends SelectedColumn {
  /** The path of the value in {@link RowImage.exact}; `null` if the value is set on the entity. */
  readonly exactPath: string | null;
  /** For a foreign key of several columns: the column of this value. */
  readonly part: ColumnMetadata | null;
}

/** The columns of a row image, for any statement that reads the table or returns its rows. */
export class ImageSelect {
  private constructor(
    private readonly definition: EntityDefinition,
    private readonly selected: readonly Selected[],
    private readonly dataSource: DataSource,
    /**
     * Whether the image is whole. An image that is not whole holds only the key. TypeORM's query builder must then read the row by that
     * key.
     */
    readonly isWhole: boolean,
  ) {}

  static of(definition: EntityDefinition, columns: ImageColumns, dataSource: DataSource): ImageSelect {
    const { spatialTypes } = dataSource.driver;
    // These columns are not ordinary: TypeORM reads spatial and virtual columns by its own expressions, and links are in another table.
    const isOrdinary = ({ isVirtualProperty, type }: ColumnMetadata) =>
      !isVirtualProperty && !spatialTypes.includes(type);
    const isWhole = !definition.linkFields.length && columns.columns.every(isOrdinary);
    const selected = selectedOf(isWhole ? columns : keyOf(columns), dataSource);
    return new ImageSelect(definition, selected, dataSource, isWhole);
  }

  /**
   * The values of a row that a statement notes while the statement runs. At that point only the columns of the table are available, so
   * virtual columns and links are left out.
   */
  static noted(definition: EntityDefinition, all: ImageColumns, dataSource: DataSource): ImageSelect {
    const columns = all.columns.filter(({ isVirtualProperty }) => !isVirtualProperty);
    return new ImageSelect(definition, selectedOf({ ...all, columns }, dataSource), dataSource, true);
  }

  /**
   * The select list, separated by commas.
   *
   * @param prefix the prefix of the aliases
   */
  list(prefix: string, source: ValueSource): string {
    const { driver } = this.dataSource;
    return this.values(source)
      .map((value, n) => `${value} AS ${driver.escape(`${prefix}${n}`)}`)
      .join(', ');
  }

  /** The values of {@link list}, without aliases. */
  values(source: ValueSource): string[] {
    return this.selected.map((selected) => {
      const { name, column, exactPath } = selected;
      const value = typeof source === 'string' ? source + name : source(selected);
      return (exactPath === null ? null : lastingExpression(column, value, this.dataSource)) ?? value;
    });
  }

  /** The columns of the selected values. */
  get columns(): readonly SelectedColumn[] {
    return this.selected;
  }

  /** The aliases of {@link list}. */
  names(prefix: string): string[] {
    return this.selected.map((_, n) => `${prefix}${n}`);
  }

  /** Builds the image of a row that was selected with {@link list}. @param names the {@link names} of its values */
  image(runner: QueryRunner, row: Readonly<Record<string, unknown>>, names: readonly string[]): RowImage {
    const { definition, selected } = this;
    const { driver } = this.dataSource;
    const entity = definition.metadata.create(runner, { fromDeserializer: true });
    const exact = new Map<string, unknown>();
    for (const [n, { column, exactPath, part }] of selected.entries()) {
      const value: unknown = driver.prepareHydratedValue(row[names[n] ?? ''] ?? null, column) ?? null;
      if (exactPath === null) column.setEntityValue(entity, value);
      else if (part === null) exact.set(exactPath, value);
      else exact.set(exactPath, withPart(exact.get(exactPath), part, value));
    }
    setForeignKeys(definition, entity, exact);
    return { key: keyOfImage(definition, entity, exact), entity, exact };
  }
}

function selectedOf({ columns, exactColumns, relations }: ImageColumns, dataSource: DataSource): Selected[] {
  const { driver } = dataSource;
  const ofColumns = columns.flatMap((column): Selected[] => {
    const { databaseName, propertyPath } = column;
    const name = driver.escape(databaseName);
    const own: Selected = { databaseName, name, column, exactPath: null, part: null };
    const isExact = exactColumns.has(column) && lastingExpression(column, name, dataSource) !== null;
    return isExact ? [own, { ...own, exactPath: propertyPath }] : [own];
  });
  // TypeORM's hydration leaves foreign keys out.
  const ofRelations = relations.flatMap(({ joinColumns, propertyPath }) =>
    joinColumns.map((join): Selected => {
      const { databaseName } = join;
      const part = joinColumns.length > 1 ? join : null;
      return {
        databaseName,
        name: driver.escape(databaseName),
        column: typingColumn(join),
        exactPath: propertyPath,
        part,
      };
    }),
  );
  return [...ofColumns, ...ofRelations];
}

function keyOf({ columns, relations, ...all }: ImageColumns): ImageColumns {
  return {
    ...all,
    columns: columns.filter(({ isPrimary }) => isPrimary),
    relations: relations.filter((relation) => all.keyRelations.has(relation)),
  };
}

/** Sets `order.customer.id` for functions of the application, as TypeORM does when it loads an entity before a write. */
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

/** The text of the primary key of a row, in the form of `rowKey`. */
export function keyOfImage(
  definition: EntityDefinition,
  entity: ObjectLiteral,
  exact: ReadonlyMap<string, unknown>,
): string {
  return JSON.stringify(
    definition.metadata.primaryColumns.map((column) => keyText(keyValue(column, entity, exact), column)),
  );
}

/** The primary key of a row, in the shape that TypeORM takes to find the row. This key keeps digits that the driver would lose. */
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

/** The value of one primary key column, in the form that the application uses. */
export function keyValue(column: ColumnMetadata, entity: ObjectLiteral, exact: ReadonlyMap<string, unknown>): unknown {
  const { relationMetadata: relation } = column;
  if (!relation || !column.isVirtual) {
    return exact.get(column.propertyPath) ?? (column.getEntityValue(entity) as unknown);
  }
  const value = exact.get(relation.propertyPath);
  if (relation.joinColumns.length === 1) return value ?? (column.getEntityValue(entity) as unknown);
  return partOf(value, column);
}
