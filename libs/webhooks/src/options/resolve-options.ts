import { createSecretKey } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { ConfigurationError } from '../errors.js';
import { unknownOption } from '../known-names.js';
import type { CircuitPolicy } from '../health/circuit.js';
import { HANDSHAKES, type Handshake } from './handshake-methods.js';
import type { SealingKey } from '../secrets/sealing.js';
import type { Limits } from '../quotas.js';
import { decodeBase64 } from '../signing/secret.js';
import { CAPTURE_MODES, type CaptureMode } from '../entities/webhook.decorator.js';
import { assertEventType } from '../events/event-type.js';
import { isReservedType } from '../events/reserved-names.js';
import { resolveSecurityOptions, type ResolvedSecurityOptions } from '../sending/security-options.js';
import { DEFAULT_TABLE_PREFIX, isSchemaName } from '../dialect.js';
import { show, kindOf } from '../show.js';
import type { DispatcherOptions, PublishedType, RetentionOptions, WebhooksOptions } from './webhooks-options.js';
import { SECOND, MINUTE, HOUR, DAY } from '../time.js';

const TEN_YEARS = 3_650 * DAY;
const KIB = 1_024;
const MIB = 1_024 * KIB;

/** The options with every default filled in, checked and frozen. The rest of the library sees only this form. */
export interface ResolvedWebhooksOptions {
  readonly tablePrefix: string;
  readonly tableSchema: string | undefined;
  readonly capture: CaptureMode;
  readonly publishedTypes: ReadonlyMap<string, PublishedType>;
  readonly dispatch: 'queued' | 'inline';
  readonly dispatcher: Readonly<Required<Omit<DispatcherOptions, 'circuit'>>> & { readonly circuit: CircuitPolicy };
  readonly maxCausationDepth: number;
  readonly unfinishedWritesTimeoutMs: number;
  readonly wakeUp: { readonly url: string | undefined } | false;
  readonly payload: {
    readonly maxPayloadBytes: number;
    readonly maxStoredBytes: number;
    readonly cloudEventsSource: string;
  };
  readonly secrets: {
    readonly rotationOverlapMs: number;
    readonly keys: readonly SealingKey[];
    readonly requireSealed: boolean;
  };
  readonly handshake: { readonly default: Handshake; readonly origin: string | undefined };
  readonly limits: Limits;
  /** `undefined`: the built-in formats and schemes. */
  readonly customers: {
    readonly formats: readonly string[] | undefined;
    readonly schemes: readonly string[] | undefined;
  };
  readonly retention: false | Readonly<Required<RetentionOptions>>;
  readonly security: ResolvedSecurityOptions;
  readonly currentManager: (() => EntityManager | undefined) | undefined;
  readonly sqlite: { readonly isolate: boolean; readonly lockTimeoutMs: number };
}

/**
 * Fills in the defaults and checks the given options.
 *
 * @throws ConfigurationError `INVALID_OPTION`: the message names the key, the value and what is allowed; `RESERVED_EVENT_TYPE`,
 * `INVALID_EVENT_TYPE`
 */
export function resolveOptions(options: WebhooksOptions): ResolvedWebhooksOptions {
  assertObject(options);
  refuseUnknownKeys(options);
  const concurrency = whole('dispatcher.concurrency', options.dispatcher?.concurrency, 64, 1, 10_000);
  const dispatcher = {
    autoStart: flag('dispatcher.autoStart', options.dispatcher?.autoStart, true),
    concurrency,
    concurrencyPerListener: whole(
      'dispatcher.concurrencyPerListener',
      options.dispatcher?.concurrencyPerListener,
      16,
      1,
      10_000,
    ),
    concurrencyPerOwner: whole(
      'dispatcher.concurrencyPerOwner',
      options.dispatcher?.concurrencyPerOwner,
      Math.ceil(concurrency / 2),
      1,
      10_000,
    ),
    circuit: circuitPolicy(options.dispatcher?.circuit),
    retryAfterCapMs: whole('dispatcher.retryAfterCapMs', options.dispatcher?.retryAfterCapMs, DAY, 0, 30 * DAY),
    maxAgeMs: whole('dispatcher.maxAgeMs', options.dispatcher?.maxAgeMs, 30 * DAY, MINUTE, TEN_YEARS),
    eventsPerBatch: whole('dispatcher.eventsPerBatch', options.dispatcher?.eventsPerBatch, 250, 1, 1_000),
    timeoutMs: whole('dispatcher.timeoutMs', options.dispatcher?.timeoutMs, 15 * SECOND, 1, 10 * MINUTE),
    leaseMs: whole('dispatcher.leaseMs', options.dispatcher?.leaseMs, 60 * SECOND, 10, HOUR),
    pollIntervalMs: whole('dispatcher.pollIntervalMs', options.dispatcher?.pollIntervalMs, SECOND, 10, HOUR),
    poolSize: whole('dispatcher.poolSize', options.dispatcher?.poolSize, 4, 1, 100),
  };
  if (dispatcher.leaseMs <= dispatcher.timeoutMs) {
    throw invalid(
      'dispatcher.leaseMs',
      dispatcher.leaseMs,
      `more than \`dispatcher.timeoutMs\` (${dispatcher.timeoutMs}), because another process sends a delivery again when its lease ends`,
    );
  }
  const payload = {
    maxPayloadBytes: whole('payload.maxPayloadBytes', options.payload?.maxPayloadBytes, 256 * KIB, 1_024, 64 * MIB),
    maxStoredBytes: whole('payload.maxStoredBytes', options.payload?.maxStoredBytes, 4 * MIB, 1_024, 256 * MIB),
    cloudEventsSource: uriReference('payload.cloudEventsSource', options.payload?.cloudEventsSource, DEFAULT_SOURCE),
  };
  if (payload.maxStoredBytes < payload.maxPayloadBytes) {
    throw invalid(
      'payload.maxStoredBytes',
      payload.maxStoredBytes,
      `at least \`payload.maxPayloadBytes\` (${payload.maxPayloadBytes})`,
    );
  }
  return deepFreeze({
    tablePrefix: prefix(options.tablePrefix),
    tableSchema: schema('tableSchema', options.tableSchema),
    capture: oneOf('capture', options.capture, 'orm', CAPTURE_MODES),
    publishedTypes: publishedTypes(options.publishedTypes ?? []),
    dispatch: oneOf('dispatch', options.dispatch, 'queued', ['queued', 'inline'] as const),
    dispatcher,
    maxCausationDepth: whole('maxCausationDepth', options.maxCausationDepth, 16, 0, 1_000),
    unfinishedWritesTimeoutMs: whole(
      'unfinishedWritesTimeoutMs',
      options.unfinishedWritesTimeoutMs,
      10 * SECOND,
      1,
      HOUR,
    ),
    wakeUp: wakeUp(options.wakeUp),
    payload,
    secrets: {
      requireSealed: requireSealed(options.secrets),
      rotationOverlapMs: whole('secrets.rotationOverlapMs', options.secrets?.rotationOverlapMs, DAY, 0, 30 * DAY),
      keys: sealingKeys(options.secrets?.keys ?? []),
    },
    handshake: handshakeOptions(options.handshake),
    limits: limits(options.limits),
    customers: {
      formats: names('customers.formats', options.customers?.formats),
      schemes: names('customers.schemes', options.customers?.schemes),
    },
    retention: retentionAges(options.retention),
    security: resolveSecurityOptions(options.security),
    currentManager: managerFunction(options.currentManager),
    sqlite: {
      isolate: flag('sqlite.isolate', options.sqlite?.isolate, true),
      lockTimeoutMs: whole('sqlite.lockTimeoutMs', options.sqlite?.lockTimeoutMs, 10 * SECOND, 1, HOUR),
    },
  });
}

function handshakeOptions(given: WebhooksOptions['handshake'] = {}): ResolvedWebhooksOptions['handshake'] {
  const { origin } = given;
  if (
    origin !== undefined &&
    (typeof origin !== 'string' || !/^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/i.test(origin))
  ) {
    throw invalid('handshake.origin', origin, "a DNS name such as 'events.example.com'");
  }
  const byDefault = oneOf('handshake.default', given.default, 'none', HANDSHAKES);
  if (byDefault === 'cloudevents' && origin === undefined) {
    throw invalid(
      'handshake.default',
      byDefault,
      "'none', 'challenge'. To allow 'cloudevents', set `handshake.origin` to the name by which receivers know this sender",
    );
  }
  return { default: byDefault, origin };
}

function requireSealed(given: WebhooksOptions['secrets'] = {}): boolean {
  const isRequired = flag('secrets.requireSealed', given.requireSealed, false);
  if (isRequired && !given.keys?.length) {
    throw invalid('secrets.requireSealed', true, 'false. To allow true, set `secrets.keys`: they seal the secrets');
  }
  return isRequired;
}

const SEALING_KEY_BYTES = 32;

/** No error shows a given value: a key with a typing error still reveals most of the key. */
function sealingKeys(given: unknown): SealingKey[] {
  if (!Array.isArray(given)) throw invalid('secrets.keys', '…', "an array such as [{ id: '2026-01', key }]");
  const ids = new Set<string>();
  return given.map((entry: unknown, index) => {
    const { id, key, ...others } = (entry ?? {}) as Record<string, unknown>;
    if (typeof id !== 'string' || !/^[\w.-]{1,32}$/.test(id) || Object.keys(others).length) {
      throw invalid(
        `secrets.keys[${index}]`,
        '…',
        "{ id, key }, where id has 1 to 32 letters, digits, '-', '_' and '.'",
      );
    }
    if (ids.has(id))
      throw invalid(`secrets.keys[${index}].id`, id, `an id that no other key has. '${id}' is used twice`);
    ids.add(id);
    const bytes = typeof key === 'string' ? decodeBase64(key) : key instanceof Uint8Array ? key : null;
    if (bytes?.length !== SEALING_KEY_BYTES) {
      throw invalid(
        `secrets.keys[${index}].key`,
        '…',
        '32 bytes, or their base64. Generate a key with: openssl rand -base64 32',
      );
    }
    return { id, key: createSecretKey(bytes) };
  });
}

function wakeUp(given: WebhooksOptions['wakeUp'] = {}): ResolvedWebhooksOptions['wakeUp'] {
  if (given === false) return false;
  const { url } = given;
  // The error does not show a wrong URL, because the URL may contain a password.
  if (url !== undefined && (typeof url !== 'string' || !/^postgres(ql)?:\/\/./.test(url))) {
    throw invalid('wakeUp.url', hidden(url), "a 'postgres://…' URL of the database server itself, not of a pooler");
  }
  return { url };
}

function circuitPolicy(given: Partial<CircuitPolicy> = {}): CircuitPolicy {
  const { failures, cooldownMs, maxCooldownMs, disableAfterMs } = given;
  const policy = {
    failures: whole('dispatcher.circuit.failures', failures, 10, 1, 1_000_000),
    cooldownMs: whole('dispatcher.circuit.cooldownMs', cooldownMs, 30 * SECOND, 1, DAY),
    maxCooldownMs: whole('dispatcher.circuit.maxCooldownMs', maxCooldownMs, 10 * MINUTE, 1, DAY),
    disableAfterMs: whole('dispatcher.circuit.disableAfterMs', disableAfterMs, 5 * DAY, 1, 365 * DAY),
  };
  if (policy.maxCooldownMs < policy.cooldownMs) {
    throw invalid(
      'dispatcher.circuit.maxCooldownMs',
      policy.maxCooldownMs,
      `at least \`dispatcher.circuit.cooldownMs\` (${policy.cooldownMs})`,
    );
  }
  return policy;
}

function names(key: string, given: readonly string[] | undefined): readonly string[] | undefined {
  if (given === undefined) return undefined;
  if (!Array.isArray(given) || !given.length || !given.every((name) => typeof name === 'string')) {
    throw invalid(key, given, "an array of names such as ['standard']");
  }
  return [...given];
}

function limits(given: WebhooksOptions['limits'] = {}): Limits {
  const limit = (key: keyof Limits, byDefault: number) => whole(`limits.${key}`, given[key], byDefault, 1, 1_000_000);
  return {
    listenersPerOwner: limit('listenersPerOwner', 1_000),
    testsPerMinute: limit('testsPerMinute', 30),
    resendsPerMinute: limit('resendsPerMinute', 60),
    attemptsPerDelivery: limit('attemptsPerDelivery', 100),
  };
}

function retentionAges(given: WebhooksOptions['retention'] = {}): ResolvedWebhooksOptions['retention'] {
  if (given === false) return false;
  // At least an hour: rows that are in use right now must be younger than the rows that are deleted.
  return {
    succeededMs: whole('retention.succeededMs', given.succeededMs, 30 * DAY, HOUR, TEN_YEARS),
    failedMs: whole('retention.failedMs', given.failedMs, 90 * DAY, HOUR, TEN_YEARS),
  };
}

const KNOWN_KEYS = {
  '': [
    'dataSource',
    'parts',
    'tablePrefix',
    'tableSchema',
    'capture',
    'publishedTypes',
    'dispatch',
    'dispatcher',
    'payload',
    'secrets',
    'security',
    'currentManager',
    'handshake',
    'customers',
    'limits',
    'retention',
    'sqlite',
    'wakeUp',
    'maxCausationDepth',
    'unfinishedWritesTimeoutMs',
  ],
  dispatcher: [
    'autoStart',
    'concurrency',
    'concurrencyPerListener',
    'concurrencyPerOwner',
    'circuit',
    'retryAfterCapMs',
    'maxAgeMs',
    'eventsPerBatch',
    'timeoutMs',
    'leaseMs',
    'pollIntervalMs',
    'poolSize',
  ],
  'dispatcher.circuit': ['failures', 'cooldownMs', 'maxCooldownMs', 'disableAfterMs'],
  payload: ['maxPayloadBytes', 'maxStoredBytes', 'cloudEventsSource'],
  secrets: ['rotationOverlapMs', 'keys', 'requireSealed'],
  handshake: ['default', 'origin'],
  customers: ['formats', 'schemes'],
  limits: ['listenersPerOwner', 'testsPerMinute', 'resendsPerMinute', 'attemptsPerDelivery'],
  retention: ['succeededMs', 'failedMs'],
  security: ['allowedAddresses', 'allowHttp', 'allowedPorts', 'proxy', 'lookup'],
  'security.proxy': ['url', 'resolvesNames', 'ca'],
  sqlite: ['isolate', 'lockTimeoutMs'],
  wakeUp: ['url'],
} as const;

/** Current names of renamed options, by their former names. */
const RENAMED_OPTIONS: Readonly<Record<string, string>> = {
  lookup: 'security.lookup',
  publishes: 'publishedTypes',
  maxDepth: 'maxCausationDepth',
  'dispatcher.batch': 'dispatcher.eventsPerBatch',
  'dispatcher.perListener': 'dispatcher.concurrencyPerListener',
  'dispatcher.perOwner': 'dispatcher.concurrencyPerOwner',
};

/** Groups that `false` turns off. */
const CAN_BE_OFF: ReadonlySet<string> = new Set(['retention', 'wakeUp']);

function propertyOf(value: unknown, key: string): unknown {
  return (value as Record<string, unknown> | undefined)?.[key];
}

/** Without this check, a factory without `return` would silently use every default. */
function assertObject(options: unknown): void {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return;
  throw new ConfigurationError(
    'INVALID_OPTION',
    `Invalid options of WebhooksModule: ${kindOf(options)}. Allowed: an object. Return {} from useFactory to use every default.`,
  );
}

/** Without this check, a misspelt key would silently leave the default in place. */
function refuseUnknownKeys(options: object): void {
  for (const [group, known] of Object.entries(KNOWN_KEYS)) {
    const value = group === '' ? options : group.split('.').reduce(propertyOf, options as unknown);
    if (value === undefined || (value === false && CAN_BE_OFF.has(group))) continue;
    if (typeof value !== 'object' || value === null)
      throw invalid(group, hidden(value), CAN_BE_OFF.has(group) ? 'an object, or false' : 'an object');
    for (const key of Object.keys(value)) {
      if ((known as readonly string[]).includes(key)) continue;
      const path = group === '' ? key : `${group}.${key}`;
      const names = group === '' ? known : known.map((name) => `${group}.${name}`);
      const renamed = Object.hasOwn(RENAMED_OPTIONS, path) ? RENAMED_OPTIONS[path] : undefined;
      throw unknownOption('WebhooksModule', path, renamed === undefined ? names : [renamed]);
    }
  }
}

function whole(key: string, value: number | undefined, byDefault: number, min: number, max: number): number {
  if (value === undefined) return byDefault;
  if (!Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `a whole number from ${min} to ${max}`);
  }
  return value;
}

function flag(key: string, value: boolean | undefined, byDefault: boolean): boolean {
  if (value === undefined) return byDefault;
  if (typeof value !== 'boolean') throw invalid(key, value, 'true, false');
  return value;
}

function oneOf<T extends string>(key: string, value: T | undefined, byDefault: T, known: readonly T[]): T {
  if (value === undefined) return byDefault;
  if (!known.includes(value)) throw invalid(key, value, `'${known.join("', '")}'`);
  return value;
}

const DEFAULT_SOURCE = 'urn:nestjs-entity-webhooks';

/** The characters of a URI reference (RFC 3986). All of them are allowed in a header, too. */
function uriReference(key: string, value: string | undefined, byDefault: string): string {
  if (value === undefined) return byDefault;
  if (typeof value !== 'string' || !/^(?:[\w\-.~:/?#[\]@!$&'()*+,;=]|%[0-9A-F]{2}){1,512}$/i.test(value)) {
    throw invalid(
      key,
      value,
      "a URI or a path of at most 512 characters, such as 'https://shop.example.com' or '/shop'",
    );
  }
  return value;
}

function managerFunction(value: WebhooksOptions['currentManager']): WebhooksOptions['currentManager'] {
  if (value !== undefined && typeof value !== 'function') {
    throw invalid('currentManager', value, 'a function that returns the EntityManager of the transaction');
  }
  return value;
}

function prefix(value: string | undefined): string {
  if (value === undefined) return DEFAULT_TABLE_PREFIX;
  if (typeof value !== 'string' || !/^[A-Za-z0-9_]{0,40}$/.test(value)) {
    throw invalid('tablePrefix', value, 'at most 40 letters, digits and underscores');
  }
  return value;
}

function schema(key: string, value: string | undefined): string | undefined {
  if (value === undefined || isSchemaName(value)) return value;
  throw invalid(key, value, '1 to 63 letters, digits and underscores');
}

function publishedTypes(given: readonly (string | PublishedType)[]): Map<string, PublishedType> {
  const types = new Map<string, PublishedType>();
  if (!Array.isArray(given)) throw invalid('publishedTypes', given, "an array such as ['invoice.overdue']");
  for (const entry of given as readonly unknown[]) {
    const published = (typeof entry === 'string' ? { type: entry } : entry) as PublishedType;
    if (!isPublishedType(published)) {
      throw invalid('publishedTypes', entry, "event types, or { type, fields: ['name', …], example: {…} }");
    }
    assertEventType(published.type, 'configuration');
    if (isReservedType(published.type)) {
      throw new ConfigurationError(
        'RESERVED_EVENT_TYPE',
        `Invalid value '${published.type}' for \`publishedTypes\`. Types that begin with 'webhooks.' are reserved for lifecycle events. Choose another first word.`,
        { details: { key: 'publishedTypes' } },
      );
    }
    if (types.has(published.type))
      throw invalid('publishedTypes', published.type, 'each type once. Remove the second entry');
    types.set(published.type, published);
  }
  return types;
}

function isPublishedType(entry: unknown): boolean {
  if (typeof entry !== 'object' || entry === null) return false;
  const { type, fields, example, ...others } = entry as Record<string, unknown>;
  const isList = Array.isArray(fields) && fields.every((field) => typeof field === 'string');
  const isExample =
    example === undefined || (typeof example === 'object' && example !== null && !Array.isArray(example));
  const isKnown = Object.keys(others).length === 0;
  return typeof type === 'string' && (fields === undefined || isList) && isExample && isKnown;
}

function invalid(key: string, value: unknown, allowed: string): ConfigurationError {
  const shown = mayHoldSecret(key, value) ? "'…'" : quoted(value);
  return new ConfigurationError('INVALID_OPTION', `Invalid value ${shown} for \`${key}\`. Allowed: ${allowed}.`, {
    details: { key },
  });
}

/** Hides a misplaced value, which may be a URL with a password or may contain a key. */
function hidden(value: unknown): unknown {
  return typeof value === 'string' || (typeof value === 'object' && value !== null) ? '…' : value;
}

/** Whether a value may contain keys, also under a misspelt option. Errors do not show such a value. */
function mayHoldSecret(key: string, value: unknown): boolean {
  return /secret|key/i.test(key) && typeof value !== 'number' && typeof value !== 'boolean';
}

function quoted(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : show(value);
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value))
    if (typeof inner === 'object' && inner !== null) deepFreeze(inner as object);
  return Object.freeze(value);
}
