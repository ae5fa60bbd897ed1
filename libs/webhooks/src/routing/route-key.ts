import { matchesPattern, patternsMatching } from '../events/event-type.js';
import type { Json, JsonObject } from '../json.js';
import type { Audience } from '../events/webhook-event.js';
import { tupleHash } from '../hash.js';
import { normaliseDecimal } from './decimal.js';
import type { Condition, Filter } from './filter.js';
import { isDropped, segmentsOf, valueAt } from './payload-path.js';

/**
 * The three key spaces that separate owners in the routes table. `application` is for listeners without an owner.
 * `owner` is for listeners of one owner. `every` is for listeners of any owner, when an event is addressed to all
 * owners.
 */
export type OwnerSpace = 'application' | 'owner' | 'every';

/**
 * A (pattern, path) pair by which a listener is routed. If only the pattern routes, `path` is `''`. Otherwise `path` is
 * `<kind>:<path>`. The kind is `n` (the value is compared as a decimal) or `v` (the value is compared unchanged). The kind ensures that
 * the value of an event and the value of a listener have the same form.
 */
export interface RoutePath {
  readonly pattern: string;
  readonly path: string;
}

/** The properties of a listener that routing needs. */
export interface RoutedListener {
  /** The owner; `null` for a listener of the application. */
  readonly owner: string | null;
  /** Valid patterns: a type, `prefix.*` or `*`. */
  readonly patterns: readonly string[];
  readonly filter: Filter;
}

/** The listeners that an event may reach. */
export interface AddressedEvent {
  readonly audience: Audience;
  readonly owner: string | null;
}

/** The properties of an event that routing needs. */
export interface RoutedEvent extends AddressedEvent {
  /** The type of the event, then the types of its parents. */
  readonly types: readonly string[];
  readonly data: JsonObject;
  /** Paths that were dropped because the payload was too large to store. */
  readonly dropped?: ReadonlySet<string>;
}

/**
 * Maximum length of a path that is used for routing, in characters. The path is stored in an indexed column, so its
 * length is limited. A filter on a longer path is evaluated, but not used for routing.
 */
const MAX_ROUTED_PATH_LENGTH = 150;

/**
 * The key under which listeners and events match: the first 16 bytes of SHA-256 over a tuple. The tuple contains the length of its
 * variable parts. So an owner or a value that contains a separator cannot give the text of another tuple. Keys are stored. If the form of
 * the tuple changes, all routes must be computed again.
 *
 * @param owner `''` unless the space is `owner`
 * @param path {@link RoutePath.path}; `''` if there is no path
 * @param value the canonical value ({@link canonicalFilterValue}); `''` if there is no value
 */
export function routeKey(space: OwnerSpace, owner: string, pattern: string, path: string, value: string): Buffer {
  // Spaces and patterns contain no `|`. The length of an owner and of a path is written before the owner and the
  // path, because both may contain `|`. So two tuples never give the same text.
  const tuple = `${space}|${pattern}|${owner.length}|${owner}|${path.length}|${path}|${value}`;
  let key = routeKeyCache.get(tuple);
  if (key === undefined) {
    if (routeKeyCache.size >= MAX_CACHED_KEYS) routeKeyCache.clear();
    key = tupleHash('route', space, owner, pattern, path, value);
    if (tuple.length <= MAX_CACHED_TUPLE_LENGTH) routeKeyCache.set(tuple, key);
  }
  return key;
}

/**
 * A cache of route keys, because the same owners and values occur again and again. A hash costs ten times more than a
 * look-up in this cache.
 */
const routeKeyCache = new Map<string, Buffer>();
const MAX_CACHED_KEYS = 10_000;
const MAX_CACHED_TUPLE_LENGTH = 300;

/**
 * Returns the text of a scalar in a route. Values of different types never give the same text: `null` (or missing),
 * booleans, numbers and strings. A decimal gives the same text in every notation.
 *
 * @returns `undefined` for values that equal no filter value: objects, lists, and a value that is not a number where a
 * number is expected.
 */
export function canonicalFilterValue(value: Json | undefined, numeric: boolean): string | undefined {
  if (value === null || value === undefined) return 'null';
  if (numeric) {
    const decimal = normaliseDecimal(value);
    return decimal === undefined ? undefined : `n:${decimal}`;
  }
  switch (typeof value) {
    case 'string':
      return `s:${value}`;
    case 'number':
      return `n:${value}`;
    case 'boolean':
      return `b:${value}`;
    default:
      return undefined;
  }
}

/**
 * Returns the keys under which a listener is found, and the (pattern, path) pairs that events must try.
 *
 * At most one condition becomes part of the keys: the most selective condition. This is a text or a number in `equals`. Next comes a
 * boolean or null in `equals`, then `in`. Of equally selective conditions, the first condition is used. There is one key per pattern,
 * value and owner space. All other conditions are evaluated on the candidates. So a listener with a matching key may receive the event.
 * A listener without a matching key does not receive the event.
 */
export function routesOf(listener: RoutedListener): { keys: Buffer[]; paths: RoutePath[] } {
  const condition = routingCondition(listener.filter);
  const path = condition === undefined ? '' : `${condition.numeric ? 'n' : 'v'}:${condition.path}`;
  const values = condition === undefined ? [''] : routedValues(condition);
  const patterns = [...new Set(listener.patterns)];

  const keys: Buffer[] = [];
  for (const pattern of patterns) {
    for (const value of values) {
      if (listener.owner === null) {
        keys.push(routeKey('application', '', pattern, path, value));
      } else {
        keys.push(routeKey('owner', listener.owner, pattern, path, value));
        keys.push(routeKey('every', '', pattern, path, value));
      }
    }
  }
  return { keys, paths: patterns.map((pattern) => ({ pattern, path })) };
}

/**
 * Returns the keys under which listeners of an event may be stored. `paths` contains all pairs that at least one
 * listener uses. Pairs that do not apply to this event are skipped.
 *
 * A path whose value was dropped from the payload gives no key: see {@link droppedPaths}.
 */
export function keysOfEvent(event: RoutedEvent, paths: readonly RoutePath[]): Buffer[] {
  const spaces = spacesOf(event);
  if (spaces.length === 0) return [];
  const patterns = patternsOf(event.types);
  const keys: Buffer[] = [];
  for (const { pattern, path } of paths) {
    if (!patterns.has(pattern)) continue;
    const value = path === '' ? '' : routedValueOf(event, path);
    if (value === undefined) continue;
    for (const [space, owner] of spaces) keys.push(routeKey(space, owner, pattern, path, value));
  }
  return keys;
}

/**
 * Returns the pairs for which {@link keysOfEvent} gives no key. The value of such a pair was dropped, because the
 * payload was too large to store. A condition on a dropped path counts as matching. So every listener that is routed by
 * one of these pairs is a candidate. To find these listeners, the caller must evaluate all listeners of the pattern.
 * The result is empty for nearly every event.
 */
export function droppedPaths(event: RoutedEvent, paths: readonly RoutePath[]): RoutePath[] {
  if (event.dropped === undefined || event.dropped.size === 0) return [];
  const patterns = patternsOf(event.types);
  return paths.filter(
    ({ pattern, path }) => path !== '' && patterns.has(pattern) && isDropped(path.slice(2), event.dropped),
  );
}

/**
 * Whether at least one of the patterns matches at least one of the types. This function checks the rule of routing
 * again for one candidate.
 */
export function matchesAnyPattern(patterns: readonly string[], types: readonly string[]): boolean {
  return patterns.some((pattern) => types.some((type) => matchesPattern(pattern, type)));
}

/**
 * Whether an event may reach a listener of this owner (`null`: a listener of the application). The routes already select only such
 * listeners. This function checks the owner again with `===`, because a database may treat different texts as equal.
 */
export function reaches(event: AddressedEvent, listenerOwner: string | null): boolean {
  if (event.audience === 'test') return false;
  if (listenerOwner === null) return event.audience !== 'owner_only';
  switch (event.audience) {
    case 'every':
      return true;
    case 'owner':
    case 'owner_only':
      return hasOwner(event) && event.owner === listenerOwner;
    default:
      return false;
  }
}

function spacesOf(event: AddressedEvent): [space: OwnerSpace, owner: string][] {
  const spaces: [OwnerSpace, string][] = [];
  if (event.audience !== 'owner_only' && event.audience !== 'test') spaces.push(['application', '']);
  if (event.audience === 'every') spaces.push(['every', '']);
  if ((event.audience === 'owner' || event.audience === 'owner_only') && hasOwner(event)) {
    spaces.push(['owner', event.owner]);
  }
  return spaces;
}

/** Whether an event has an owner. An event whose declared owner is empty belongs to no owner. */
function hasOwner(event: AddressedEvent): event is AddressedEvent & { owner: string } {
  return event.owner !== null && event.owner !== '';
}

function patternsOf(types: readonly string[]): ReadonlySet<string> {
  const [type] = types;
  if (type === undefined || types.length > 1) return new Set(types.flatMap(patternsMatching));
  let patterns = patternCache.get(type);
  if (patterns === undefined) {
    if (patternCache.size >= MAX_CACHED_TYPES) patternCache.clear();
    patternCache.set(type, (patterns = new Set(patternsMatching(type))));
  }
  return patterns;
}

const patternCache = new Map<string, ReadonlySet<string>>();
const MAX_CACHED_TYPES = 1_000;

function routedValueOf(event: RoutedEvent, routePath: string): string | undefined {
  const path = routePath.slice(2);
  if (isDropped(path, event.dropped)) return undefined;
  return canonicalFilterValue(valueAt(event.data, segmentsOf(path)), routePath.startsWith('n:'));
}

function routingCondition(filter: Filter): Condition | undefined {
  let best: Condition | undefined;
  for (const condition of filter) {
    if (best === undefined ? selectivity(condition) > 0 : selectivity(condition) > selectivity(best)) best = condition;
  }
  return best;
}

function selectivity({ operator, value, routable, path }: Condition): number {
  if (!routable || path.length > MAX_ROUTED_PATH_LENGTH) return 0;
  if (operator === 'in') return 1;
  if (operator !== 'equals') return 0;
  return value === null || typeof value === 'boolean' ? 2 : 3;
}

function routedValues({ value, numeric }: Condition): string[] {
  const given: readonly Json[] = Array.isArray(value) ? value : [value];
  const canonical = given.map((item) => canonicalFilterValue(item, numeric));
  return [...new Set(canonical.filter((item) => item !== undefined))];
}
