import { BadRequestError, ConfigurationError } from '../errors.js';
import { isReservedType } from './reserved-names.js';

/** Longest event type or pattern, in characters: the width of the columns that store them. */
export const MAX_EVENT_TYPE_LENGTH = 128;

const EVENT_TYPE = /^[a-z0-9_]+(?:\.[a-z0-9_]+)*$/;
const EVERY_TYPE = '*';
const ANY_SUFFIX = '.*';

/**
 * The origin of an event type. An invalid type from a `request` (a listener, a call of `publish()`) causes a `BadRequestError`. An invalid
 * type from the `configuration` (the name of a decorated entity) causes a `ConfigurationError`.
 */
export type EventTypeSource = 'request' | 'configuration';

/**
 * Rejects a value that is not an event type: lower-case words of `a-z`, `0-9` and `_`, joined by dots, at most 128 characters.
 *
 * @throws {BadRequestError | ConfigurationError} `INVALID_EVENT_TYPE`. `source` decides which of the two errors is
 * thrown.
 * @example assertEventType('order_item.created')
 */
export function assertEventType(type: unknown, source: EventTypeSource = 'request'): asserts type is string {
  if (isEventType(type)) return;
  const message = `Invalid event type: ${quote(type)}. Allowed: lower-case words of a-z, 0-9 and _ joined by dots, like "order.created", at most ${MAX_EVENT_TYPE_LENGTH} characters.`;
  throw source === 'configuration'
    ? new ConfigurationError('INVALID_EVENT_TYPE', message)
    : new BadRequestError('INVALID_EVENT_TYPE', message);
}

/**
 * Rejects a value that is not a pattern of a listener: an event type, `prefix.*` (every type below the prefix), or `*`.
 *
 * @throws {BadRequestError} `INVALID_EVENT_TYPE`.
 */
export function assertPattern(pattern: unknown): asserts pattern is string {
  if (typeof pattern === 'string' && pattern.length <= MAX_EVENT_TYPE_LENGTH) {
    if (pattern === EVERY_TYPE) return;
    const prefix = pattern.endsWith(ANY_SUFFIX) ? pattern.slice(0, -ANY_SUFFIX.length) : pattern;
    if (isEventType(prefix)) return;
  }
  throw new BadRequestError(
    'INVALID_EVENT_TYPE',
    `Invalid event pattern: ${quote(pattern)}. Allowed: a type like "order.created", a prefix like "order.*", or "*", at most ${MAX_EVENT_TYPE_LENGTH} characters.`,
  );
}

/**
 * Every pattern that matches a type, the most specific first. `*` does not match the operational events of this module.
 *
 * @example patternsMatching('order.item.created') // ['order.item.created', 'order.item.*', 'order.*', '*']
 */
export function patternsMatching(type: string): string[] {
  const patterns = [type];
  for (let dot = type.lastIndexOf('.'); dot > 0; dot = type.lastIndexOf('.', dot - 1)) {
    patterns.push(`${type.slice(0, dot)}${ANY_SUFFIX}`);
  }
  if (!isReservedType(type)) patterns.push(EVERY_TYPE);
  return patterns;
}

/**
 * Whether a pattern matches a type. `order.*` matches `order.created` and `order.item.created`, but neither `order` nor
 * `orders.created`. Both arguments must be valid. The result is `true` exactly for the patterns that {@link patternsMatching} returns.
 */
export function matchesPattern(pattern: string, type: string): boolean {
  if (pattern === EVERY_TYPE) return !isReservedType(type);
  if (pattern === type) return true;
  return pattern.endsWith(ANY_SUFFIX) && type.startsWith(pattern.slice(0, -1));
}

/**
 * Makes the entity's name in event types from the name of its class.
 *
 * A class name with letters outside ASCII, or with `$`, gives a text that {@link assertEventType} rejects: such an entity
 * needs the option `name`.
 *
 * @example snakeCase('OrderItem') // 'order_item'
 * @example snakeCase('HTTPLog') // 'http_log'
 */
export function snakeCase(className: string): string {
  return className
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1_$2')
    .toLowerCase();
}

function isEventType(type: unknown): type is string {
  return typeof type === 'string' && type.length <= MAX_EVENT_TYPE_LENGTH && EVENT_TYPE.test(type);
}

function quote(value: unknown): string {
  if (typeof value !== 'string') return `a value of type ${value === null ? 'null' : typeof value}`;
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
}
