import { isPlainObject, type Json, type JsonObject } from '../json.js';
import type { CatalogType } from './catalog-type.js';
import { fullDescription, includedTypes, type CatalogDocumentOptions } from './documents.js';
import { schemaNames, type SchemaNames } from './schema-names.js';

const HEAD = `// Types of the webhooks that this sender sends. Generated from its event catalogue: do not edit.

/** The body of a webhook. With \`truncated\`, fields of \`data\` are missing because the payload was too large. */
export type WebhookBody<Type extends string, Data, Previous = undefined> =
  | { type: Type; timestamp: string; data: Data; previous?: Previous; test?: true; truncated?: undefined }
  | { type: Type; timestamp: string; data: Partial<Data>; previous?: Previous; test?: true; truncated: true };
`;

const TAIL = `/** Any webhook: compare \`type\`, and the type of \`data\` is known. */
export type AnyWebhook = WebhookPayloads[keyof WebhookPayloads];
`;

/** TypeScript types of the payloads, for receivers. They need no package. */
export function typeScriptOf(all: readonly CatalogType[], options: CatalogDocumentOptions): string {
  const types = includedTypes(all, options);
  const names = schemaNames(types);
  const printed = new Map<string, string>();
  for (const { type, data, previous } of types) {
    const { data: dataName, previous: previousName } = names.get(type) as SchemaNames;
    printed.set(dataName, declaration(dataName, data));
    if (previous) printed.set(previousName, declaration(previousName, previous));
  }
  const members = types.map((type) => memberOf(type, names.get(type.type) as SchemaNames));
  const payloads = `/** The payloads, by event type. */\nexport interface WebhookPayloads {\n${members.join('')}}\n`;
  return [HEAD, ...printed.values(), payloads, TAIL].join('\n');
}

function memberOf(type: CatalogType, { data, previous }: SchemaNames): string {
  const { deprecated } = type;
  const about = fullDescription(type) ?? type.title;
  const comment = commentOf(deprecated ? `${about}\n@deprecated` : about, INDENT);
  const parts = [literal(type.type), data, ...(type.previous ? [previous] : [])];
  // Payloads of version 1 do not contain their version.
  const versioned = type.version > 1 ? ` & { version: ${type.version} }` : '';
  return `${comment}${INDENT}${literal(type.type)}: WebhookBody<${parts.join(', ')}>${versioned};\n`;
}

const INDENT = '  ';

function declaration(name: string, schema: JsonObject): string {
  const comment = commentOf(schema['description'], '');
  const type = typeOf(schema, '');
  return type.startsWith('{\n')
    ? `${comment}export interface ${name} ${type}\n`
    : `${comment}export type ${name} = ${type};\n`;
}

/** The type of the values that a schema allows. If TypeScript cannot express the schema, the type is `unknown`. */
function typeOf(schema: Json | undefined, indent: string): string {
  if (!isPlainObject(schema)) return 'unknown';
  const { type, enum: members, const: constant, anyOf, oneOf } = schema as JsonObject;
  if (constant !== undefined) return literal(constant);
  if (Array.isArray(members)) return union(members.map(literal));
  const alternatives = anyOf ?? oneOf;
  if (Array.isArray(alternatives)) return union(alternatives.map((one) => typeOf(one, indent)));
  if (Array.isArray(type)) return union(type.map((one) => typeOf({ ...(schema as JsonObject), type: one }, indent)));
  switch (type) {
    case 'string':
    case 'boolean':
    case 'null':
      return type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return `Array<${typeOf((schema as JsonObject)['items'], indent)}>`;
    case 'object':
      return objectType(schema as JsonObject, indent);
    default:
      return 'unknown';
  }
}

function objectType({ properties, required, additionalProperties }: JsonObject, indent: string): string {
  if (!isPlainObject(properties) || Object.keys(properties).length === 0) {
    return `Record<string, ${typeOf(additionalProperties, indent)}>`;
  }
  const inner = indent + INDENT;
  const members = Object.entries(properties as JsonObject).map(([name, schema]) => {
    const { description } = isPlainObject(schema) ? schema : {};
    const isRequired = Array.isArray(required) && required.includes(name);
    return `${commentOf(description, inner)}${inner}${key(name)}${isRequired ? '' : '?'}: ${typeOf(schema, inner)};\n`;
  });
  return `{\n${members.join('')}${indent}}`;
}

function union(types: readonly string[]): string {
  const distinct = [...new Set(types)];
  if (distinct.includes('unknown')) return 'unknown';
  return distinct.length === 0 ? 'never' : distinct.join(' | ');
}

function literal(value: Json): string {
  if (typeof value !== 'string') return typeof value === 'object' && value !== null ? 'unknown' : String(value);
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;
}

function key(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : literal(name);
}

/** A text of the application may contain the end of a comment. */
function commentOf(text: unknown, indent: string): string {
  if (typeof text !== 'string' || text === '') return '';
  const lines = text.replaceAll('*/', '*\\/').split(/\r?\n/);
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`;
}
