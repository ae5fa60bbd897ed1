/** The part of JSON Schema that the API uses, in the form of OpenAPI 3.0: `nullable` instead of a list of types. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: 'string' | 'integer' | 'number' | 'boolean' | 'array' | 'object';
  readonly nullable?: boolean;
  readonly description?: string;
  readonly example?: unknown;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly oneOf?: readonly Schema[];
  readonly writeOnly?: boolean;
}

/** One violation of a schema. */
export interface Violation {
  /** JSON Pointer (RFC 6901) of the value; empty for the value itself. */
  readonly pointer: string;
  /** The allowed values, in words. */
  readonly detail: string;
}

const DATE_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** The violations of a schema by a value. @param components the schemas that `$ref` may name */
export function violations(
  schema: Schema,
  value: unknown,
  components: Readonly<Record<string, Schema>> = {},
  pointer = '',
): Violation[] {
  if (schema.$ref !== undefined) return violations(resolveRef(schema.$ref, components), value, components, pointer);
  if (value === null && schema.nullable === true) return [];
  if (schema.oneOf) {
    const isOne = schema.oneOf.some((one) => violations(one, value, components, pointer).length === 0);
    return isOne ? [] : [{ pointer, detail: 'must have one of the documented forms' }];
  }
  if (schema.type !== undefined && !isOfType(value, schema.type))
    return [{ pointer, detail: `must be ${typeName(schema)}` }];
  if (schema.enum && !schema.enum.includes(value))
    return [{ pointer, detail: `must be one of ${schema.enum.join(', ')}` }];
  if (typeof value === 'string') return textViolations(schema, value, pointer);
  if (typeof value === 'number') return numberViolations(schema, value, pointer);
  if (Array.isArray(value)) return listViolations(schema, value, components, pointer);
  if (typeof value === 'object' && value !== null) return objectViolations(schema, value, components, pointer);
  return [];
}

export function resolveRef(ref: string, components: Readonly<Record<string, Schema>>): Schema {
  const schema = components[ref.slice(ref.lastIndexOf('/') + 1)];
  if (!schema) throw new Error(`There is no schema ${ref}.`);
  return schema;
}

function isOfType(value: unknown, type: NonNullable<Schema['type']>): boolean {
  if (type === 'array') return Array.isArray(value);
  if (type === 'integer') return Number.isSafeInteger(value);
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value);
  return typeof value === type;
}

function typeName({ type, nullable }: Schema): string {
  const name = { string: 'a text', integer: 'a whole number', number: 'a number', boolean: 'true or false' };
  const article = type === 'array' ? 'a list' : type === 'object' ? 'an object' : name[type as keyof typeof name];
  return nullable ? `${article} or null` : article;
}

function textViolations(
  { minLength = 0, maxLength = Infinity, pattern, format }: Schema,
  value: string,
  pointer: string,
): Violation[] {
  if (value.length < minLength) return [{ pointer, detail: `must have at least ${minLength} characters` }];
  if (value.length > maxLength) return [{ pointer, detail: `must have at most ${maxLength} characters` }];
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(value))
    return [{ pointer, detail: `must match ${pattern}` }];
  if (format === 'date-time' && (!DATE_TIME.test(value) || Number.isNaN(Date.parse(value)))) {
    return [{ pointer, detail: 'must be a time such as 2026-11-30T12:00:00Z (RFC 3339)' }];
  }
  return [];
}

function numberViolations(
  { minimum = -Infinity, maximum = Infinity }: Schema,
  value: number,
  pointer: string,
): Violation[] {
  if (value >= minimum && value <= maximum) return [];
  return [{ pointer, detail: `must be from ${minimum} to ${maximum}` }];
}

function listViolations(
  { items, minItems = 0, maxItems = Infinity }: Schema,
  value: readonly unknown[],
  components: Readonly<Record<string, Schema>>,
  pointer: string,
): Violation[] {
  if (value.length < minItems || value.length > maxItems) {
    return [{ pointer, detail: `must have ${minItems} to ${maxItems} items` }];
  }
  return items ? value.flatMap((item, n) => violations(items, item, components, `${pointer}/${n}`)) : [];
}

function objectViolations(
  { properties = {}, required = [], additionalProperties = true }: Schema,
  value: object,
  components: Readonly<Record<string, Schema>>,
  pointer: string,
): Violation[] {
  const missing = required.filter((key) => !Object.hasOwn(value, key));
  return [
    ...missing.map((key) => ({ pointer: `${pointer}/${escaped(key)}`, detail: 'is required' })),
    ...Object.entries(value).flatMap(([key, inner]) => {
      const place = `${pointer}/${escaped(key)}`;
      const schema = Object.hasOwn(properties, key) ? properties[key] : additionalProperties;
      if (schema === false) return [{ pointer: place, detail: unknownDetail(Object.keys(properties)) }];
      return typeof schema === 'object' ? violations(schema, inner, components, place) : [];
    }),
  ];
}

function unknownDetail(known: readonly string[]): string {
  return known.length ? `is unknown. Known: ${known.join(', ')}` : 'is unknown: nothing is allowed here';
}

/** RFC 6901, 3. The value is cut, because it is foreign text. */
function escaped(key: string): string {
  return key.slice(0, 64).replaceAll('~', '~0').replaceAll('/', '~1');
}
