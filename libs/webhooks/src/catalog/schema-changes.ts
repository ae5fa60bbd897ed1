import { isPlainObject, type Json, type JsonObject } from '../json.js';

/** A change of a schema. */
export interface SchemaChange {
  /** `data.address.city` */
  readonly path: string;
  readonly breaking: boolean;
  readonly change: string;
}

/**
 * The changes from one schema of values to another. A change is breaking if a receiver that handles all old values may fail: a property
 * is missing, a value has another kind, or may be `null`. Additional properties and additional members of an enum are not breaking, because
 * receivers must ignore unknown ones.
 */
export function schemaChanges(old: JsonObject, now: JsonObject, path: string): SchemaChange[] {
  const change = (breaking: boolean, text: string): SchemaChange => ({ path, breaking, change: text });
  const [before, after] = [kindOf(old), kindOf(now)];
  if (before.name !== after.name) {
    // An integer is a number, too.
    const isNarrower = before.name === 'anything' || (before.name === 'number' && after.name === 'integer');
    return [change(!isNarrower, `was ${before.name}, is ${after.name} now`)];
  }
  const changes: SchemaChange[] = [];
  if (!before.nullable && after.nullable) changes.push(change(true, 'may be null now'));
  if (before.nullable && !after.nullable) changes.push(change(false, 'is never null now'));
  const lost = before.members?.filter((member) => !after.members?.includes(member)) ?? [];
  const added = after.members?.filter((member) => !before.members?.includes(member)) ?? [];
  if (after.members && lost.length) changes.push(change(true, `has no value ${lost.join(', ')} any more`));
  if (before.members && !after.members) changes.push(change(true, 'may have any value now'));
  if (before.members && added.length) changes.push(change(false, `may be ${added.join(', ')} now`));
  return [...changes, ...propertyChanges(old, now, path), ...itemChanges(old, now, path)];
}

function propertyChanges(old: JsonObject, now: JsonObject, path: string): SchemaChange[] {
  const [before, after] = [propertiesOf(old), propertiesOf(now)];
  const changes = Object.entries(before).flatMap(([name, schema]): SchemaChange[] => {
    const here = `${path}.${name}`;
    const other = after[name];
    if (other === undefined) return [{ path: here, breaking: true, change: 'was removed' }];
    const isLost = isRequired(old, name) && !isRequired(now, name);
    const missing = isLost ? [{ path: here, breaking: true, change: 'may be missing now' }] : [];
    return [...missing, ...schemaChanges(schema, other, here)];
  });
  for (const name of Object.keys(after)) {
    if (!(name in before)) changes.push({ path: `${path}.${name}`, breaking: false, change: 'is new' });
  }
  return changes;
}

function itemChanges({ items: old }: JsonObject, { items: now }: JsonObject, path: string): SchemaChange[] {
  if (!isPlainObject(old) || !isPlainObject(now)) return [];
  return schemaChanges(old as JsonObject, now as JsonObject, `${path}[]`);
}

interface Kind {
  /** The kind of the values in words: `string (date-time)`, `object`, `anything`. */
  readonly name: string;
  readonly nullable: boolean;
  /** The members of an enum, as JSON. */
  readonly members: readonly string[] | undefined;
}

function kindOf(schema: JsonObject): Kind {
  const { type, enum: members, const: constant, anyOf, format, pattern, contentEncoding } = schema;
  const values = constant === undefined ? members : [constant];
  const isNull = (one: Json) => one === null || (isPlainObject(one) && one['type'] === 'null');
  const types = type === undefined ? [] : [type].flat();
  const details = [format, pattern, contentEncoding].filter((detail) => detail !== undefined).map(String);
  const alternatives = Array.isArray(anyOf) ? anyOf.filter((one) => !isNull(one)) : [];
  const names = [
    ...types.filter((one) => one !== 'null').map(String),
    ...alternatives.map((one) => (isPlainObject(one) ? kindOf(one as JsonObject).name : 'anything')),
  ];
  const name = names.length > 0 ? names.toSorted().join(' or ') : Array.isArray(values) ? 'one of a list' : 'anything';
  return {
    name: details.length > 0 ? `${name} (${details.join(', ')})` : name,
    nullable: types.includes('null') || [values ?? [], anyOf ?? []].flat().some(isNull),
    members: Array.isArray(values) ? values.filter((one) => one !== null).map((one) => JSON.stringify(one)) : undefined,
  };
}

function propertiesOf({ properties }: JsonObject): Record<string, JsonObject> {
  return isPlainObject(properties) ? (properties as Record<string, JsonObject>) : {};
}

function isRequired({ required }: JsonObject, name: string): boolean {
  return Array.isArray(required) && required.includes(name);
}
