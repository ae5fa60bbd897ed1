import { exampleRow } from '../entities/field-form.js';
import type { EntityDefinition } from '../entities/entity-definition.js';
import { setPath } from '../entities/set-path.js';
import { exampleOfSchema } from '../entities/schema-example.js';
import type { EntityAction } from '../entities/webhook.decorator.js';
import { isPlainObject, type JsonObject } from '../json.js';
import type { PublishedType } from '../options/webhooks-options.js';

/** The content of an example event. */
export interface ExampleEvent {
  readonly data: JsonObject;
  readonly previous?: JsonObject;
  /** The version of `data`: the newest version of the type. */
  readonly version: number;
}

/** An example event of an entity: the first of its `examples`, or a made-up value for each property of the payload. */
export function exampleOfEntity(definition: EntityDefinition, action: EntityAction): ExampleEvent {
  return examplesOfEntity(definition, action)[0] as ExampleEvent;
}

/** At least one example event of an entity. */
export function examplesOfEntity(definition: EntityDefinition, action: EntityAction): ExampleEvent[] {
  const { examples = [exampleRow(definition, definition.fields, 0)] } = definition.options;
  const { version } = definition;
  return examples.map((data) =>
    action === 'updated' ? { version, data, previous: previousOf(definition, data) } : { version, data },
  );
}

/** The old value of the first property that an application may change. */
function previousOf(definition: EntityDefinition, data: JsonObject): JsonObject {
  const changed = definition.fields.find(
    (field) =>
      (field.parts[0] ?? '') in data &&
      !definition.identity.includes(field.parts[0] ?? '') &&
      !field.automatic &&
      !definition.ignored.has(field),
  );
  return changed ? exampleRow(definition, [changed], 1) : {};
}

/** An example event of a published type: the first of its `examples`, or made up from its `schema` or its `fields`. */
export function exampleOfPublished(published: PublishedType): ExampleEvent {
  return examplesOfPublished(published)[0] as ExampleEvent;
}

/** At least one example event of a published type. */
export function examplesOfPublished({ fields, schema, examples, version = 1 }: PublishedType): ExampleEvent[] {
  if (examples) return examples.map((data) => ({ version, data }));
  const made = schema && exampleOfSchema(schema);
  if (isPlainObject(made)) return [{ version, data: made as JsonObject }];
  const data: JsonObject = {};
  for (const field of fields ?? []) setPath(data, field.split('.'), 'example');
  return [{ version, data }];
}
