import type { Json, JsonObject } from '../json.js';
import type { ColumnMetadata } from './canonical-value.js';
import type { EntityDefinition } from './entity-definition.js';
import type { OutField } from './out-field.js';
import { setPath } from './set-path.js';
import { typingColumn, withPart } from './foreign-keys.js';
import { exampleOfSchema } from './schema-example.js';
import { formOf, orNull, type ValueForm } from './value-form.js';

/** The form of a field's values, with its description, and with `null` if the row may have no value. */
export function formOfField(definition: EntityDefinition, field: OutField): ValueForm {
  const declared = declaredOf(definition, field.path);
  const { schema, examples } = declared.schema ? formOfSchema(declared.schema) : formOfValues(field);
  const nullable = isNullable(field) ? orNull(schema) : schema;
  const description = declared.description ?? describedElsewhere(field);
  return { schema: description === undefined ? nullable : { ...nullable, description }, examples };
}

/** A made-up row. @param at the row 0 and the row 1 differ in every field that can have two values */
export function exampleRow(definition: EntityDefinition, fields: readonly OutField[], at: 0 | 1): JsonObject {
  const row: JsonObject = {};
  for (const field of fields) setPath(row, field.parts, formOfField(definition, field).examples[at]);
  return row;
}

/** The entry of `describe` for a property of the payload or for an embedded. */
export function declaredOf(
  { options }: EntityDefinition,
  path: string,
): { readonly description?: string; readonly schema?: JsonObject } {
  const given = options.describe?.[path];
  return typeof given === 'string' ? { description: given } : (given ?? {});
}

function formOfSchema(schema: JsonObject): ValueForm {
  const example = exampleOfSchema(schema);
  return { schema, examples: [example, example] };
}

function formOfValues(field: OutField): ValueForm {
  return field.isLinks ? listOf(keyForm(field)) : keyForm(field);
}

/** The value of a relation is the key of the other row; of several columns, an object. */
function keyForm({ relation, isLinks, column, path }: OutField): ValueForm {
  const joins = isLinks ? relation?.junctionEntityMetadata?.inverseColumns : relation?.joinColumns;
  return joins && joins.length > 1 ? compositeForm(joins, path) : formOf(column, path);
}

function compositeForm(joins: readonly ColumnMetadata[], path: string): ValueForm {
  const forms = new Set<unknown>();
  const tree = joins.reduce<object>((key, join) => {
    const form = formOf(typingColumn(join), path);
    forms.add(form);
    return withPart(key, join, form);
  }, {});
  return objectForm(tree, forms);
}

/** @param forms the leaves of the tree */
function objectForm(tree: object, forms: ReadonlySet<unknown>): ValueForm {
  if (forms.has(tree)) return tree as ValueForm;
  const parts = Object.entries(tree).map(([name, part]) => [name, objectForm(part as object, forms)] as const);
  const pick = <T extends Json>(of: (form: ValueForm) => T): Record<string, T> =>
    Object.fromEntries(parts.map(([name, form]) => [name, of(form)]));
  return {
    schema: { type: 'object', properties: pick(({ schema }) => schema), required: parts.map(([name]) => name) },
    examples: [pick(({ examples }) => examples[0]), pick(({ examples }) => examples[1])],
  };
}

function listOf({ schema, examples: [first, second] }: ValueForm): ValueForm {
  return { schema: { type: 'array', items: schema }, examples: [[first], [second]] };
}

/** The columns of a view declare nothing about `null`. */
function isNullable({ relation, isLinks, column }: OutField): boolean {
  if (isLinks) return false;
  if (relation) return relation.isNullable;
  return column.isNullable || column.isVirtualProperty || column.entityMetadata.tableType === 'view';
}

/** The key under which `@ApiProperty()` of @nestjs/swagger stores its options. */
const API_PROPERTY = 'swagger/apiModelProperties';

/**
 * The description in `@ApiProperty()`, or the comment of the column. Examples of `@ApiProperty()` are not used: they show the form of an
 * API, such as a number for a decimal, and not of the payload.
 */
function describedElsewhere({ column, relation }: OutField): string | undefined {
  const { target, propertyName } = relation ?? column;
  const owner: unknown = (relation ?? column).embeddedMetadata?.type ?? target;
  const options =
    typeof owner === 'function'
      ? (Reflect.getMetadata(API_PROPERTY, owner.prototype as object, propertyName) as
          { description?: unknown } | undefined)
      : undefined;
  if (typeof options?.description === 'string' && options.description !== '') return options.description;
  return relation ? undefined : column.comment || undefined;
}
