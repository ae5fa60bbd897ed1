import { DEFAULT_TABLE_PREFIX, isSchemaName } from './dialect.js';
import { DEFAULT_INSTANCE } from './instance.js';
import { oneOf, option, optional } from './option-table.js';

// Options that several modules share.

export const DATA_SOURCE = option<string>(
  DEFAULT_INSTANCE,
  { allowed: 'the name of a data source', isAllowed: isText },
  'the default data source',
);

export const DECORATORS = option<readonly ClassDecorator[]>(Object.freeze([]), {
  allowed: 'an array of class decorators, such as [Public()]',
  isAllowed: (given) => Array.isArray(given) && given.every((decorator) => typeof decorator === 'function'),
  read: (given) => Object.freeze([...given]),
});

export const RAW_BODY = oneOf('nest', ['nest', 'provided']);

export const TABLE_PREFIX = option<string>(DEFAULT_TABLE_PREFIX, {
  allowed: '0 to 40 characters of A-Z, a-z, 0-9 and _',
  isAllowed: (given) => typeof given === 'string' && /^\w{0,40}$/.test(given),
  isSecret: false,
});

export const TABLE_SCHEMA = optional<string>({
  allowed: '1 to 63 characters of A-Z, a-z, 0-9 and _',
  isAllowed: isSchemaName,
  isSecret: false,
});

/** The path of a route. */
export function pathOption(byDefault: string) {
  return option<string>(byDefault, { allowed: `a path such as '${byDefault}'`, isAllowed: isText });
}

/** Whether a value is a text that contains more than spaces. */
export function isText(given: unknown): boolean {
  return typeof given === 'string' && given.trim() !== '';
}
