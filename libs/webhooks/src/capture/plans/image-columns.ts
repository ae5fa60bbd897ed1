import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import { hasOwnColumn } from '../../entities/foreign-keys.js';

/** The parts of a row that its image holds. */
export interface ImageColumns {
  /** Columns that are properties of the entity. Virtual columns that TypeORM computes are included. */
  readonly columns: readonly ColumnMetadata[];
  /**
   * The columns whose exact values are needed. `when` and an `owner` function also see the other columns, with the values that TypeORM
   * loads.
   */
  readonly exactColumns: ReadonlySet<ColumnMetadata>;
  /** Relations whose foreign keys are columns of the table only. */
  readonly relations: EntityDefinition['relationsNeeded'];
  /** The relations of the primary key. */
  readonly keyRelations: ReadonlySet<unknown>;
}

/** Returns the columns of the key, of the payload and of the owner. If `when` or an `owner` function sees the row, returns all columns. */
export function imageColumnsOf(definition: EntityDefinition): ImageColumns {
  const { metadata, options, columnsNeeded, hiddenColumnsNeeded, relationsNeeded } = definition;
  const isWholeRow = options.when !== undefined || typeof options.owner === 'function';
  const exactColumns = new Set([...metadata.primaryColumns, ...columnsNeeded, ...hiddenColumnsNeeded]);
  const keyRelations = new Set(metadata.primaryColumns.map(({ relationMetadata }) => relationMetadata));
  return {
    columns: metadata.columns.filter(
      (column) => !column.isVirtual && (exactColumns.has(column) || (isWholeRow && column.isSelect)),
    ),
    exactColumns,
    relations: metadata.relations.filter(
      (relation) => hasOwnColumn(relation) && (keyRelations.has(relation) || relationsNeeded.includes(relation)),
    ),
    keyRelations,
  };
}
