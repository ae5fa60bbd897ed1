import { isPlainObject, type Json, type JsonObject } from '../json.js';

const TEXTS: Readonly<Record<string, string>> = {
  date: '2026-01-01',
  'date-time': '2026-01-01T12:00:00.000Z',
  uuid: '00000000-0000-4000-8000-000000000001',
  uri: 'https://example.com',
  email: 'someone@example.com',
};

/** A value that fits a JSON Schema of an application, as far as types, constants and formats decide it. */
export function exampleOfSchema(schema: JsonObject): Json {
  const { examples, default: byDefault, const: constant, enum: members, format } = schema;
  const given = [...listOf(examples), byDefault, constant, ...listOf(members)].find((value) => value !== undefined);
  if (given !== undefined) return given;
  const { properties } = schema;
  const [type] = listOf(schema['type']).length ? listOf(schema['type']) : [schema['type']];
  if (isPlainObject(properties)) return objectOf(properties as JsonObject);
  if (type === 'array') return isPlainObject(schema['items']) ? [exampleOfSchema(schema['items'] as JsonObject)] : [];
  if (type === 'object') return {};
  if (type === 'integer' || type === 'number') return typeof schema['minimum'] === 'number' ? schema['minimum'] : 1;
  if (type === 'boolean') return true;
  return TEXTS[String(format)] ?? 'example';
}

function objectOf(properties: JsonObject): JsonObject {
  const entries = Object.entries(properties).map(
    ([name, schema]) => [name, isPlainObject(schema) ? exampleOfSchema(schema as JsonObject) : null] as const,
  );
  return Object.fromEntries(entries);
}

function listOf(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? value : [];
}
