import type { DataSource, EntityMetadata } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { imageColumnsOf, type ImageColumns } from './image-columns.js';
import { ImageSelect } from './image-select.js';
import { plainReadOf, type PlainRead } from './plain-read.js';
import { triggerValuesOf, type TriggerValue } from './trigger-values.js';

/** How the rows of a captured entity are read. Computed once from the definition of the entity, before the first write. */
export class EntityPlan {
  readonly columns: ImageColumns;
  /** The columns of images that a statement selects or returns. */
  readonly select: ImageSelect;
  /** The columns of images that a statement notes while the statement runs. */
  readonly notedSelect: ImageSelect;
  /** Reads rows by their keys; `null` if TypeORM's query builder must read the rows. */
  readonly plainRead: PlainRead | null;
  /** The columns that the database fills in and TypeORM reads back after an INSERT. */
  readonly fetched: ReadonlySet<ColumnMetadata>;
  /** Whether TypeORM reads columns by another statement after an INSERT, because the driver does not return these columns. */
  readonly isReadAfterInsert: boolean;
  /** As {@link isReadAfterInsert}, but for an update, a soft delete or a restore. */
  readonly isReadAfterUpdate: boolean;
  /** Paths of the fields whose change makes an event. Automatic fields, such as an update date, are not in this set. */
  readonly touchable: ReadonlySet<string>;
  /** The values that an image of a trigger must hold. */
  readonly triggerValues: readonly TriggerValue[];

  /** @param dataSource the data source of the definition, after its initialization */
  constructor(
    readonly definition: EntityDefinition,
    dataSource: DataSource,
  ) {
    const { fields, metadata } = definition;
    const columns = (this.columns = imageColumnsOf(definition));
    this.select = ImageSelect.of(definition, columns, dataSource);
    this.notedSelect = ImageSelect.noted(definition, columns, dataSource);
    this.plainRead = plainReadOf(metadata, this.select, dataSource);
    this.fetched = new Set(metadata.getInsertionReturningColumns());
    this.touchable = new Set(fields.filter(({ automatic }) => !automatic).map(({ path }) => path));
    this.triggerValues = triggerValuesOf(columns, dataSource);
    const { driver } = dataSource;
    this.isReadAfterInsert = !driver.isReturningSqlSupported('insert') && hasComputedColumns(metadata, 'insert');
    this.isReadAfterUpdate = !driver.isReturningSqlSupported('update') && hasComputedColumns(metadata, 'update');
  }
}

/** Whether an entity has columns that the database computes in such a statement. */
function hasComputedColumns(metadata: EntityMetadata, statement: 'insert' | 'update'): boolean {
  const { createDateColumn, deleteDateColumn, updateDateColumn, versionColumn, columns } = metadata;
  if (deleteDateColumn ?? updateDateColumn ?? versionColumn ?? createDateColumn) return true;
  return columns.some(({ asExpression, default: value, isGenerated }) =>
    statement === 'insert' ? value !== undefined && !isGenerated : asExpression !== undefined,
  );
}
