import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { ownerText, OWNER_TEXTS } from '../owner.js';
import { invalidValue, show } from '../show.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { WorkFilter } from './bulk-work.js';
import { FAILED_STATES, PENDING_STATES } from './delivery.js';
import { notForOwners } from './errors.js';
import { milliseconds } from './milliseconds.js';
import type { NewTask, TaskFilter, TaskKind } from './task.js';

const ROW = ['entity', 'entityId'] as const;
const PERIOD = ['since', 'until'] as const;
const DELIVERIES = ['listenerId', ...PERIOD, 'states', 'types', 'errorCode', ...ROW, 'owner'] as const;

interface KindRules {
  readonly allowed: readonly (keyof TaskFilter)[];
  readonly required: readonly (keyof TaskFilter)[];
  /** The lists of states that this kind of task can select. The first list is the default. */
  readonly states: readonly string[];
  readonly defaultStates: readonly string[];
  /** Whether a service that is bound to an owner may create the task. */
  readonly isForOwners: boolean;
}

const NO_STATES = { states: [], defaultStates: [] };

const KINDS: Readonly<Record<TaskKind, KindRules>> = {
  recover: {
    allowed: DELIVERIES,
    required: ['since'],
    states: FAILED_STATES,
    defaultStates: ['exhausted'],
    isForOwners: true,
  },
  discard: {
    allowed: DELIVERIES,
    required: [],
    states: PENDING_STATES,
    defaultStates: PENDING_STATES,
    isForOwners: true,
  },
  replay: {
    allowed: ['listenerId', ...PERIOD, 'types', ...ROW, 'owner'],
    required: ['listenerId', 'since'],
    ...NO_STATES,
    isForOwners: true,
  },
  erase: { allowed: [...ROW, 'owner', 'eventId'], required: [], ...NO_STATES, isForOwners: false },
  reseal: { allowed: [], required: [], ...NO_STATES, isForOwners: false },
};

/** Every kind of task. */
export const TASK_KINDS = Object.keys(KINDS) as readonly TaskKind[];

const FILTER: readonly (keyof TaskFilter)[] = [...DELIVERIES, 'eventId'];
const MAX_TYPES = 100;
const MAX_RATE = 10_000;
const MAX_TEXT = 255;

/** The parts that the checks need. */
export interface TaskChecks {
  readonly scope: OwnerScope;
  readonly now: number;
  /** The key by which the events of a row are found. @throws BadRequestError `UNKNOWN_ENTITY`, `INVALID_ENTITY_ID` */
  readonly rowKey: (entity: string, entityId: unknown, isOwned: boolean) => Buffer;
}

/** A task whose input was checked. */
export interface CheckedTask {
  readonly kind: TaskKind;
  readonly filter: WorkFilter;
  /** The filter in the form in which the task shows it. */
  readonly shown: TaskFilter;
  readonly ratePerSecond: number | null;
}

/** @throws BadRequestError `INVALID_TASK`, `INVALID_TIME`, `INVALID_STATE`, `UNKNOWN_ENTITY`, `INVALID_ENTITY_ID`, `NOT_FOR_OWNERS` */
export function checkTask(input: NewTask, checks: TaskChecks): CheckedTask {
  const { kind, ratePerSecond = null, ...given } = (input ?? {}) as NewTask;
  if (!TASK_KINDS.includes(kind)) throw invalid('kind', invalidValue('kind', kind, listed(TASK_KINDS)));
  const rules = KINDS[kind];
  if (checks.scope !== undefined && !rules.isForOwners) {
    throw notForOwners(kind);
  }
  if (ratePerSecond !== null && !(Number.isInteger(ratePerSecond) && ratePerSecond >= 1 && ratePerSecond <= MAX_RATE)) {
    throw invalid('ratePerSecond', invalidValue('ratePerSecond', ratePerSecond, 'a whole number from 1 to 10,000'));
  }
  assertProperties(kind, rules, given);
  const shown = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as TaskFilter;
  return { kind, ratePerSecond, shown, filter: filterOf(shown, rules, checks) };
}

function filterOf(given: TaskFilter, rules: KindRules, { scope, now, rowKey }: TaskChecks): WorkFilter {
  const { since, until, entity, entityId, types, owner } = given;
  for (const key of ['listenerId', 'errorCode', 'entity', 'eventId'] as const) {
    if (given[key] !== undefined) assertText(key, given[key]);
  }
  if (types !== undefined) assertTypes(types);
  if (owner !== undefined && (typeof owner !== 'string' || ownerText(owner) === undefined)) {
    throw invalid('owner', invalidValue('owner', owner, OWNER_TEXTS));
  }
  return {
    listenerId: given.listenerId,
    since: since === undefined ? 0 : milliseconds(since, 'since'),
    until: until === undefined ? now + 1 : milliseconds(until, 'until'),
    states: statesOf(given.states, rules),
    types,
    errorCode: given.errorCode,
    eventId: given.eventId,
    owner,
    orderKey: entity === undefined ? undefined : rowKey(entity, entityId, scope !== undefined).toString('hex'),
  };
}

function assertProperties(kind: TaskKind, { allowed, required }: KindRules, given: TaskFilter): void {
  const has = (key: keyof TaskFilter) => given[key] !== undefined;
  const unknown = Object.keys(given).filter((key) => !FILTER.includes(key as keyof TaskFilter));
  const refused = [...unknown, ...FILTER.filter((key) => has(key) && !allowed.includes(key))];
  if (refused.length) {
    const known = allowed.length ? `Allowed: ${listed(allowed)}.` : 'It has no filter.';
    throw invalid(refused, `A task that ${kind}s cannot have ${listed(refused)}. ${known}`);
  }
  const missing = required.filter((key) => !has(key));
  if (missing.length) throw invalid(missing, `A task that ${kind}s needs ${listed(missing)}.`);
  if (has('entity') !== has('entityId')) throw invalid(ROW, 'Give `entity` and `entityId` together.');
  const chosen = [has('eventId'), has('entity'), has('owner')].filter(Boolean).length;
  if (kind === 'erase' && chosen !== 1) {
    throw invalid(
      ['eventId', 'entity', 'owner'],
      'A task that erases needs one of `eventId`, `entity` with `entityId`, and `owner`.',
    );
  }
}

function statesOf(given: unknown, { states, defaultStates }: KindRules): readonly string[] {
  if (given === undefined) return defaultStates;
  const list = Array.isArray(given) ? [...new Set(given as readonly string[])] : [];
  if (list.length && list.every((state) => states.includes(state))) return list;
  throw new BadRequestError('INVALID_STATE', invalidValue('states', given, `a list of ${listed(states)}`));
}

function assertTypes(types: unknown): void {
  const isList = Array.isArray(types) && types.length > 0 && types.length <= MAX_TYPES;
  if (isList && types.every((type) => typeof type === 'string' && type !== '' && type.length <= MAX_TEXT)) return;
  throw invalid('types', invalidValue('types', types, `a list of 1 to ${MAX_TYPES} event types`));
}

function assertText(key: string, value: unknown): void {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_TEXT) return;
  throw invalid(key, `Invalid value ${show(textOf(value).slice(0, 64))} for \`${key}\`. Allowed: 1 to 255 characters.`);
}

function listed(names: readonly string[]): string {
  return names.map((name) => `\`${textOf(name).slice(0, 64)}\``).join(', ');
}

/** The error for invalid properties of a task. */
function invalid(properties: string | readonly string[], message: string): BadRequestError {
  return new BadRequestError('INVALID_TASK', message, { details: { properties: [properties].flat() } });
}
