import type { Schema } from './schema.js';

type Schemas = Readonly<Record<string, Schema>>;

const SHARD: Schema = {
  type: 'string',
  description: 'The shard that has it. Only for operators of an API that serves several shards.',
};
const MISSING: Schema = {
  type: 'array',
  items: { type: 'string' },
  description: 'Shards that did not answer, so their part is missing. Only if several shards were asked.',
};
const SWITCHES: Schema = {
  type: 'array',
  items: { type: 'object', additionalProperties: true, description: 'The switch of a shard.' },
  description: 'The switch of each shard that answered. Only if several shards were asked.',
};
const SHARDS: Schema = {
  type: 'array',
  items: { type: 'string' },
  description: 'The names of the shards. Only for operators of an API that serves several shards.',
};

/** Answers that come from several shards together. */
const MERGED = [
  ...['ListenerPage', 'DeliveryPage', 'EventPage', 'TaskPage', 'AuditPage'],
  ...['Overview', 'Sending', 'Statistics', 'Preview', 'Chores', 'Damaged'],
];
/** Objects that one shard has. */
const HELD = [
  ...['Listener', 'ListenerWithSecret', 'ListenerDetails', 'Delivery', 'DeliveryDetails', 'EventSummary', 'Event'],
  ...['Task', 'TaskCount', 'Test', 'AuditItem', 'SkippedListener', 'FailingListener', 'DispatcherProcess'],
  ...['Overview', 'Sending', 'Statistics', 'Preview'],
];
/** Lists whose items have no schema of their own. */
const LISTS = ['Chores', 'Damaged'];

/** Adds the properties that only answers of an API over several shards have. */
export function withShards(schemas: Schemas): Schemas {
  const changed: Record<string, Schema> = { ...schemas };
  const change = (name: string, of: (schema: Schema) => Schema) => (changed[name] = of(changed[name] as Schema));
  for (const name of HELD) change(name, (schema) => withProperties(schema, { shard: SHARD }));
  for (const name of MERGED) change(name, (schema) => withProperties(schema, { missing: MISSING }));
  for (const name of LISTS) {
    change(name, ({ properties = {}, ...schema }) => {
      const list = properties['items'] as Schema;
      const items = withProperties(list.items as Schema, { shard: SHARD });
      return { ...schema, properties: { ...properties, items: { ...list, items } } };
    });
  }
  change('Sending', (schema) => withProperties(schema, { shards: SWITCHES }));
  change('Me', (schema) => withProperties(schema, { shards: SHARDS }));
  return changed;
}

function withProperties(schema: Schema, properties: Schemas): Schema {
  return { ...schema, properties: { ...schema.properties, ...properties } };
}
