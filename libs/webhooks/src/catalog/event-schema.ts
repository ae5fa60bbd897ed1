import type { EntityDefinition } from '../entities/entity-definition.js';
import type { OutField } from '../entities/out-field.js';
import { declaredOf, formOfField } from '../entities/field-form.js';
import type { JsonObject } from '../json.js';

/**
 * The schema of an entity's `data`. Every field is required, because a field without a value is `null`. Additional properties are allowed,
 * because receivers must ignore unknown properties.
 *
 * @param isRequired for objects that lack fields, such as `previous`
 */
export function dataSchemaOf(
  definition: EntityDefinition,
  isRequired: (field: OutField) => boolean = () => true,
): JsonObject {
  const { description } = definition.options;
  const data: JsonObject = { type: 'object', ...(description === undefined ? {} : { description }), properties: {} };
  for (const field of definition.fields) {
    const { parts } = field;
    const parent = parts.slice(0, -1).reduce((here, part, depth) => {
      const path = parts.slice(0, depth + 1).join('.');
      return embeddedIn(here, part, declaredOf(definition, path).description, isRequired(field));
    }, data);
    addProperty(parent, parts.at(-1) ?? '', formOfField(definition, field).schema, isRequired(field));
  }
  return data;
}

/** The parts of a payload that {@link payloadSchema} puts together: schemas, or references to schemas. */
export interface PayloadParts {
  readonly data: JsonObject;
  /** Absent for types that have no `previous`. */
  readonly previous?: JsonObject;
}

/** The schema of a whole payload. A payload that was too large is `truncated`, and may lack any field of `data` and `previous`. */
export function payloadSchema(
  { type, version }: { readonly type: string; readonly version: number },
  { data, previous }: PayloadParts,
): JsonObject {
  const time = { timestamp: { type: 'string', format: 'date-time' } };
  // Payloads of version 1 do not contain their version.
  const common: JsonObject = {
    type: { const: type },
    ...(version > 1 ? { version: { const: version } } : {}),
    ...time,
  };
  const always = Object.keys(common);
  const test: JsonObject = { const: true, description: 'true in test events. Absent in all others.' };
  const some: JsonObject = { type: 'object' };
  const complete: JsonObject = {
    type: 'object',
    properties: { ...common, data, ...(previous ? { previous } : {}), test },
    required: [...always, 'data'],
  };
  const truncated: JsonObject = {
    type: 'object',
    description: 'A payload that was too large. Fields are missing: read the object from the API of the sender.',
    properties: { ...common, data: some, ...(previous ? { previous: some } : {}), truncated: { const: true } },
    required: [...always, 'data', 'truncated'],
  };
  return { anyOf: [complete, truncated] };
}

function embeddedIn(
  schema: JsonObject,
  name: string,
  description: string | undefined,
  isRequired: boolean,
): JsonObject {
  const known = (schema['properties'] as JsonObject)[name];
  if (known !== undefined) return known as JsonObject;
  const made: JsonObject = { type: 'object', ...(description === undefined ? {} : { description }), properties: {} };
  addProperty(schema, name, made, isRequired);
  return made;
}

function addProperty(schema: JsonObject, name: string, property: JsonObject, isRequired: boolean): void {
  (schema['properties'] as JsonObject)[name] = property;
  if (isRequired) ((schema['required'] ??= []) as string[]).push(name);
}
