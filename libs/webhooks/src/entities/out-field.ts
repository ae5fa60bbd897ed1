import { getMetadataArgsStorage, type EntityMetadata } from 'typeorm';
import {
  isNumericColumn,
  isScalarColumn,
  valueKindOf,
  type ColumnMetadata,
  type ValueKind,
} from './canonical-value.js';
import { exposureOf } from './exposed-properties.js';
import { firstOwnColumn, relationsAt, typingColumn } from './foreign-keys.js';
import { hiddenProperties } from './webhook.decorator.js';

export type RelationMetadata = EntityMetadata['relations'][number];

/** One property of the payload. */
export interface OutField {
  /**
   * The path in the payload, such as `status` or `address.city`. For a relation: the path of the relation's property. In the payload, the
   * value at this path is the id of the other row, or the ids of all linked rows.
   */
  readonly path: string;
  readonly parts: readonly string[];
  readonly column: ColumnMetadata;
  readonly relation: RelationMetadata | null;
  /** Whether the value is the list of the sorted ids of the rows that a `@JoinTable` links to this row. */
  readonly isLinks: boolean;
  readonly kind: ValueKind;
  readonly numeric: boolean;
  readonly routable: boolean;
  /** Whether the database or TypeORM sets this field (update date, version). A change of such a field alone makes no event. */
  readonly automatic: boolean;
}

/** Every field that a payload of the entity could have. */
export function allFields(metadata: EntityMetadata): OutField[] {
  return [...columnFields(metadata), ...linkFields(metadata)];
}

/** The fields of relations with a `@JoinTable`. */
function linkFields(metadata: EntityMetadata): OutField[] {
  return metadata.manyToManyRelations.flatMap((relation): OutField[] => {
    const column = relation.junctionEntityMetadata?.inverseColumns[0]?.referencedColumn;
    if (!relation.isManyToManyOwner || !column) return [];
    const { propertyPath: path } = relation;
    const typed = column.referencedColumn ?? column;
    return [
      {
        path,
        parts: path.split('.'),
        column: typed,
        relation,
        isLinks: true,
        kind: valueKindOf(typed),
        numeric: false,
        routable: false,
        automatic: false,
      },
    ];
  });
}

/** The fields of the columns, with a relation for its foreign key. */
export function columnFields(metadata: EntityMetadata): OutField[] {
  return metadata.columns.flatMap((column): OutField[] => {
    // TypeORM itself adds virtual columns without a relation: discriminators, closure columns and nested-set columns.
    if (column.isDiscriminator) return [];
    if (!column.isVirtual) return isOfChild(metadata, column) ? [] : [columnField(column, column.propertyPath, null)];
    // Several relations may share this column. A foreign key of several columns makes only one field.
    return relationsAt(column).flatMap((relation) => {
      const own = firstOwnColumn(relation) ?? column;
      return isOfChild(metadata, own) ? [] : [columnField(typingColumn(own), relation.propertyPath, relation)];
    });
  });
}

/**
 * Whether a child in a single table declares the column. In TypeORM, the parent has every column of its children. But the parent does
 * not have the decorators with which the children hide columns.
 */
function isOfChild({ target }: EntityMetadata, column: ColumnMetadata): boolean {
  const embedded = column.embeddedMetadata?.embeddedMetadataTree[0];
  if (!embedded) return extendsClass(column.relationMetadata?.target ?? column.target, target);
  const declared = getMetadataArgsStorage().embeddeds.filter((args) => args.propertyName === embedded.propertyName);
  const isOwn = declared.some((args) => args.target === target || extendsClass(target, args.target));
  return !isOwn && declared.some((args) => extendsClass(args.target, target));
}

/** Tells which fields of an entity may be in a payload: the other ones are hidden by a decorator or by `select: false`. */
export function visibilityOf({ target }: EntityMetadata): (field: OutField) => boolean {
  const isExposed = exposureOf(target);
  const hidden = hiddenProperties(target);
  return (field) =>
    field.column.isSelect &&
    !field.parts.some((_, depth) => hidden.has(field.parts.slice(0, depth + 1).join('.'))) &&
    isExposed(field.parts[0] ?? '') &&
    !isHiddenInEmbedded(field);
}

/** @param column the column that decides the kind of the values; for a relation, the referenced column */
function columnField(column: ColumnMetadata, path: string, relation: RelationMetadata | null): OutField {
  return {
    path,
    parts: path.split('.'),
    column,
    relation,
    isLinks: false,
    kind: valueKindOf(column),
    numeric: isNumericColumn(column),
    routable: isScalarColumn(column) && (relation?.joinColumns.length ?? 1) === 1,
    automatic: column.isUpdateDate || column.isVersion,
  };
}

/** Whether a decorator on the class of an embedded, at any depth, hides the field. */
function isHiddenInEmbedded({ column, relation }: OutField): boolean {
  const { embeddedMetadata, propertyName } = relation ?? column;
  const tree = embeddedMetadata?.embeddedMetadataTree ?? [];
  return tree.some(({ type }, depth) => {
    const property = tree[depth + 1]?.propertyName ?? propertyName;
    return hiddenProperties(type).has(property) || !exposureOf(type)(property);
  });
}

function extendsClass(child: unknown, parent: unknown): boolean {
  return typeof child === 'function' && typeof parent === 'function' && child.prototype instanceof parent;
}
