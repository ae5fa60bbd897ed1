import type { EntityManager } from 'typeorm';
import { CAPTURE_MODES } from '../entities/webhook.decorator.js';
import type { DispatcherEngine } from '../engine.js';
import type { CircuitPolicy } from '../health/circuit.js';
import { DATA_SOURCE, TABLE_PREFIX, TABLE_SCHEMA } from '../module-options.js';
import {
  bytes,
  canBeOff,
  flag,
  group,
  invalidOption,
  isObject,
  milliseconds,
  oneOf,
  option,
  optional,
  optionalFunction,
  optionalWhole,
  resolveTable,
  secret,
  whole,
  within,
  type OptionModule,
  type OptionPlace,
  type OptionTable,
  type Resolved,
} from '../option-table.js';
import type { SealingKey } from '../secrets/sealing.js';
import { SECURITY } from '../sending/security-options.js';
import { DAY, HOUR, MINUTE, SECOND } from '../time.js';
import { HANDSHAKES } from './handshake-methods.js';
import { publishedTypesByName } from './published-types.js';
import { sealingKeys } from './sealing-keys.js';
import type {
  CustomersOptions,
  DispatcherOptions,
  HandshakeOptions,
  LimitsOptions,
  LogOptions,
  PublishedType,
  RedisConnection,
  RetentionOptions,
  SealingKeyOptions,
  SecretsOptions,
  WebhooksInstanceOptions,
  WebhooksModuleOptions,
  WebhooksOptions,
  WebhooksPart,
  WebhooksParts,
} from './webhooks-options.js';

// Each group of options has one table with every default and every check. `satisfies` compares a table with its interface. The
// comments of the interface say what the options mean. docs/options.md is made from the tables and the comments.

const TEN_YEARS = 3_650 * DAY;
const KIB = 1_024;
const MIB = 1_024 * KIB;

const CIRCUIT = {
  failures: whole(10, [1, 1_000_000]),
  cooldownMs: milliseconds(30 * SECOND, [1, DAY]),
  maxCooldownMs: milliseconds(10 * MINUTE, [1, DAY]),
  disableAfterMs: milliseconds(5 * DAY, [1, 365 * DAY]),
} satisfies OptionTable<CircuitPolicy>;

const DISPATCHER = {
  autoStart: flag(true),
  concurrency: whole(64, [1, 10_000]),
  concurrencyPerListener: whole(16, [1, 10_000]),
  concurrencyPerOwner: optionalWhole([1, 10_000]),
  circuit: group(CIRCUIT, (circuit, place) => withAtLeast('maxCooldownMs', 'cooldownMs', circuit, place)),
  retryAfterCapMs: milliseconds(DAY, [0, 30 * DAY]),
  maxAgeMs: milliseconds(30 * DAY, [MINUTE, TEN_YEARS]),
  eventsPerBatch: whole(250, [1, 1_000]),
  timeoutMs: milliseconds(15 * SECOND, [1, 10 * MINUTE]),
  leaseMs: milliseconds(MINUTE, [10, HOUR]),
  pollIntervalMs: milliseconds(SECOND, [10, HOUR]),
  poolSize: whole(4, [1, 100]),
  engine: optional<DispatcherEngine>({
    allowed: 'what `bullmqEngine()` returns',
    isAllowed: (given) => isObject(given) && typeof given.open === 'function',
    isSecret: true, // it may hold the password of Redis
  }),
} satisfies OptionTable<DispatcherOptions>;

const PAYLOAD = {
  maxPayloadBytes: bytes(256 * KIB, [KIB, 64 * MIB]),
  maxStoredBytes: bytes(4 * MIB, [KIB, 256 * MIB]),
  cloudEventsSource: option<string>('urn:nestjs-entity-webhooks', {
    allowed: "a URI or a path of at most 512 characters, such as 'https://shop.example.com' or '/shop'",
    // The characters of a URI reference (RFC 3986). All these characters are also allowed in a header.
    isAllowed: matches(/^(?:[\w\-.~:/?#[\]@!$&'()*+,;=]|%[0-9A-F]{2}){1,512}$/i),
  }),
  schemaBaseUrl: optional<string>({
    allowed:
      "an https: or http: URL of at most 512 characters without a query, such as 'https://shop.example.com/webhooks/v1/event-types/schemas'",
    // The characters of a URI (RFC 3986). All these characters are also allowed in a header.
    isAllowed: matches(/^(?=.{1,512}$)https?:\/\/(?:[\w\-.~:/[\]@!$&'()*+,;=]|%[0-9A-F]{2})+$/i),
    read: (given) => given.replace(/\/+$/, ''),
  }),
} satisfies OptionTable<NonNullable<WebhooksOptions['payload']>>;

const SECRETS = {
  rotationOverlapMs: milliseconds(DAY, [0, 30 * DAY]),
  keys: option<readonly SealingKeyOptions[], readonly SealingKey[]>(Object.freeze([]), {
    allowed: "an array such as [{ id: '2026-01', key }]",
    isAllowed: Array.isArray,
    read: sealingKeys,
  }),
  requireSealed: flag(false),
} satisfies OptionTable<SecretsOptions>;

const HANDSHAKE = {
  default: oneOf('none', HANDSHAKES),
  origin: optional<string>({
    allowed: "a DNS name such as 'events.example.com'",
    isAllowed: matches(/^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/i),
  }),
} satisfies OptionTable<HandshakeOptions>;

const NAMES = optional<readonly string[]>({
  allowed: "an array of names such as ['standard']",
  isAllowed: (given) => Array.isArray(given) && given.length > 0 && given.every((name) => typeof name === 'string'),
  read: (given) => Object.freeze([...given]),
});

const CUSTOMERS = { formats: NAMES, schemes: NAMES } satisfies OptionTable<CustomersOptions>;

const LIMITS = {
  listenersPerOwner: whole(1_000, [1, 1_000_000]),
  testsPerMinute: whole(30, [1, 1_000_000]),
  resendsPerMinute: whole(60, [1, 1_000_000]),
  attemptsPerDelivery: whole(100, [1, 1_000_000]),
} satisfies OptionTable<LimitsOptions>;

// Retention periods are at least one hour: deleted rows must be older than all rows that are in use right now.
const RETENTION = {
  succeededMs: milliseconds(30 * DAY, [HOUR, TEN_YEARS]),
  failedMs: milliseconds(90 * DAY, [HOUR, TEN_YEARS]),
} satisfies OptionTable<RetentionOptions>;

const LOG = {
  attempts: oneOf('failed', ['failed', 'all', 'none']),
  details: oneOf('failed', ['failed', 'all', 'thin']),
} satisfies OptionTable<LogOptions>;

const WAKE_UP = {
  redis: optional<() => RedisConnection>({
    allowed: 'a function that returns a new connection of ioredis',
    isAllowed: (given) => typeof given === 'function',
    isSecret: true, // a URL may contain a password
  }),
  url: optional<string>({
    allowed: "a 'postgres://…' URL of the database server itself, not of a pooler",
    isAllowed: matches(/^postgres(ql)?:\/\/./),
    isSecret: true, // the URL may contain a password
  }),
} satisfies OptionTable<Exclude<WebhooksOptions['wakeUp'], undefined | false>>;

const SQLITE = {
  isolate: flag(true),
  lockTimeoutMs: milliseconds(10 * SECOND, [1, HOUR]),
} satisfies OptionTable<NonNullable<WebhooksOptions['sqlite']>>;

const WEBHOOKS = {
  tablePrefix: TABLE_PREFIX,
  tableSchema: TABLE_SCHEMA,
  capture: oneOf('orm', CAPTURE_MODES),
  publishedTypes: option<readonly (string | PublishedType)[], ReadonlyMap<string, PublishedType>>(new Map(), {
    allowed: "an array such as ['invoice.overdue']",
    isAllowed: Array.isArray,
    read: publishedTypesByName,
  }),
  currentManager: optionalFunction<() => EntityManager | undefined>(
    'a function that returns the EntityManager of the transaction',
  ),
  dispatch: oneOf('queued', ['queued', 'inline']),
  dispatcher: group(DISPATCHER, withRulesOfDispatcher),
  maxCausationDepth: whole(16, [0, 1_000]),
  unfinishedWritesTimeoutMs: milliseconds(10 * SECOND, [1, HOUR]),
  wakeUp: canBeOff(group(WAKE_UP, withOneChannel), {}),
  payload: group(PAYLOAD, (payload, place) => withAtLeast('maxStoredBytes', 'maxPayloadBytes', payload, place)),
  secrets: secret(group(SECRETS, withKeysIfSealed)),
  handshake: group(HANDSHAKE, withOriginIfNeeded),
  customers: group(CUSTOMERS),
  limits: group(LIMITS),
  retention: canBeOff(group(RETENTION), {}),
  security: SECURITY,
  log: group(LOG),
  operationalEvents: flag(false),
  sqlite: group(SQLITE),
} satisfies OptionTable<WebhooksOptions>;

const PARTS = {
  transport: part(),
  retrySchedule: part(),
  archive: part(),
  payloadFormats: list(),
  signatureSchemes: list(),
  imports: list(),
} satisfies OptionTable<WebhooksParts>;

const INSTANCE = { dataSource: DATA_SOURCE, parts: group(PARTS) } satisfies OptionTable<WebhooksInstanceOptions>;

/** Every option of `WebhooksModule.forRoot()`. */
export const WEBHOOKS_MODULE_OPTIONS = { ...INSTANCE, ...WEBHOOKS } satisfies OptionTable<WebhooksModuleOptions>;

/** The options with every default filled in, checked and frozen. The rest of the library sees the options only in this form. */
export type ResolvedWebhooksOptions = Resolved<typeof WEBHOOKS>;

/** The options that Nest needs before any factory runs, with every default filled in. */
export type ResolvedInstanceOptions = Resolved<typeof INSTANCE>;

const BESIDE_FACTORY = 'Set this option beside `useFactory`, because Nest needs the option before the factory runs.';

/** The module and its hints, for errors. */
export const WEBHOOKS_MODULE: OptionModule = {
  name: 'WebhooksModule',
  hints: {
    '': 'Return {} from useFactory to use every default.',
    dataSource: BESIDE_FACTORY,
    parts: BESIDE_FACTORY,
    // Former names.
    lookup: 'Use `security.lookup`.',
    publishes: 'Use `publishedTypes`.',
    maxDepth: 'Use `maxCausationDepth`.',
    'dispatcher.batch': 'Use `dispatcher.eventsPerBatch`.',
    'dispatcher.perListener': 'Use `dispatcher.concurrencyPerListener`.',
    'dispatcher.perOwner': 'Use `dispatcher.concurrencyPerOwner`.',
  },
};

/**
 * Fills in the defaults and checks the given options.
 *
 * @throws ConfigurationError `INVALID_OPTION`: the message names the key, the value and the allowed values;
 * `RESERVED_EVENT_TYPE`, `INVALID_EVENT_TYPE`
 */
export function resolveOptions(options: WebhooksOptions): ResolvedWebhooksOptions {
  return resolveTable(WEBHOOKS, options, WEBHOOKS_MODULE);
}

/** Like {@link resolveOptions}, but for the options that Nest needs before any factory runs. Other keys are ignored. */
export function resolveInstanceOptions({ dataSource, parts }: WebhooksInstanceOptions): ResolvedInstanceOptions {
  return resolveTable(INSTANCE, { dataSource, parts }, WEBHOOKS_MODULE);
}

/** This check accepts every part. The part itself is checked where its provider is made: `INVALID_PART`. */
function part<T>() {
  return optional<WebhooksPart<T>>({ allowed: 'a class or a provider', isAllowed: () => true });
}

function list<L extends readonly unknown[]>() {
  return option<L>([] as unknown as L, { allowed: 'an array', isAllowed: Array.isArray });
}

function matches(pattern: RegExp) {
  return (given: unknown) => typeof given === 'string' && pattern.test(given);
}

function withAtLeast<K extends string, T extends Readonly<Record<K, unknown>>>(
  larger: K,
  smaller: K,
  options: T,
  place: OptionPlace,
): T {
  if (Number(options[larger]) >= Number(options[smaller])) return options;
  const limit = `\`${within(place, smaller).key}\` (${String(options[smaller])})`;
  throw invalidOption(within(place, larger), options[larger], `at least ${limit}`);
}

function withRulesOfDispatcher(dispatcher: Resolved<typeof DISPATCHER>, place: OptionPlace) {
  const { leaseMs, timeoutMs, concurrency, concurrencyPerOwner = Math.ceil(concurrency / 2) } = dispatcher;
  if (leaseMs > timeoutMs) return { ...dispatcher, concurrencyPerOwner };
  const reason = 'because another process sends a delivery again when its lease ends';
  const allowed = `more than \`${within(place, 'timeoutMs').key}\` (${timeoutMs}), ${reason}`;
  throw invalidOption(within(place, 'leaseMs'), leaseMs, allowed);
}

function withKeysIfSealed(secrets: Resolved<typeof SECRETS>, place: OptionPlace) {
  if (!secrets.requireSealed || secrets.keys.length > 0) return secrets;
  const fix = 'To allow true, set `secrets.keys`: they seal the secrets.';
  throw invalidOption(within(place, 'requireSealed'), true, 'false', fix);
}

function withOneChannel(wakeUp: Resolved<typeof WAKE_UP>, place: OptionPlace) {
  if (wakeUp.redis === undefined || wakeUp.url === undefined) return wakeUp;
  const fix = '`url` is for notifications through PostgreSQL. Remove `url` or `redis`.';
  throw invalidOption({ ...within(place, 'url'), isSecret: true }, wakeUp.url, 'no `url` beside `redis`', fix);
}

function withOriginIfNeeded(handshake: Resolved<typeof HANDSHAKE>, place: OptionPlace) {
  if (handshake.default !== 'cloudevents' || handshake.origin !== undefined) return handshake;
  const fix = "To allow 'cloudevents', set `handshake.origin` to the name by which receivers know this sender.";
  throw invalidOption(within(place, 'default'), handshake.default, "'none', 'challenge'", fix);
}
