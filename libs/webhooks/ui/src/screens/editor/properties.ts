import { api } from '../../session/api.js';
import type { EventType } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import type { Property } from './filter-builder.js';
import type { Kind } from './filter.js';

interface Schema {
  readonly type?: string | readonly string[];
  readonly pattern?: string;
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly anyOf?: readonly Schema[];
}

/** The schemas of so many types are read. Types of one entity have the same properties. */
const MAX_READ = 6;

/** The properties that filters of these types may name, with what the catalogue says about each. */
export function useProperties(types: readonly EventType[]): readonly Property[] {
  const read = onePerEntity(types).slice(0, MAX_READ);
  const names = read.map(({ type }) => type);
  const { data } = useLoaded(`schemas ${names.join(' ')}`, async (signal) => {
    const all = await Promise.all(names.map((type) => api.getEventType({ type }, { signal })));
    return new Map(all.flatMap(({ schema }) => [...propertiesOf(dataOf(schema))]));
  });
  const paths = [...new Set(types.flatMap(({ properties }) => properties))];
  const known = [...(data?.values() ?? [])].filter(({ path }) => !paths.includes(path));
  return [
    ...paths.map((path) => data?.get(path) ?? { path, kind: 'unknown' as const, values: [], description: undefined }),
    // Nested properties, which the list of names leaves out.
    ...known.filter(({ path }) => paths.some((one) => path.startsWith(`${one}.`))),
  ];
}

function onePerEntity(types: readonly EventType[]): readonly EventType[] {
  const byEntity = new Map(types.map((type) => [type.type.replace(/\.[^.]*$/, ''), type]));
  return [...byEntity.values()];
}

function dataOf(schema: Schema): Schema {
  // The first form of a payload is the whole one.
  const whole = schema.anyOf?.[0] ?? schema;
  return whole.properties?.['data'] ?? {};
}

function* propertiesOf({ properties = {} }: Schema, parent = ''): Generator<[string, Property]> {
  for (const [name, schema] of Object.entries(properties)) {
    const path = parent === '' ? name : `${parent}.${name}`;
    const values = (schema.enum ?? []).filter((one): one is string => typeof one === 'string');
    yield [path, { path, kind: kindOf(schema), values, description: schema.description }];
    yield* propertiesOf(schema, path);
  }
}

function kindOf({ type, pattern }: Schema): Kind {
  const types = typeof type === 'string' ? [type] : (type ?? []);
  if (types.includes('number') || types.includes('integer')) return 'number';
  if (types.includes('boolean')) return 'yes-no';
  // Decimals and long numbers are texts in payloads, and are compared by value.
  if (types.includes('string')) return pattern?.includes('\\d') ? 'number' : 'text';
  return 'unknown';
}
