import type { DynamicModule, FactoryProvider } from '@nestjs/common';
import { ConfigurationError, WebhooksError } from '../../errors.js';
import { unknownOption } from '../../known-names.js';
import { DEFAULT_TABLE_PREFIX, isSchemaName } from '../../dialect.js';
import type { IncomingWebhookScheme } from '../incoming-webhook-scheme.js';
import { INCOMING_WEBHOOK_SCHEMES, type IncomingWebhookSchemeName } from '../incoming-webhook-schemes.js';
import { IncomingWebhookError } from '../incoming-webhook-error.js';
import type { IncomingWebhookMessage } from './incoming-webhook-message.js';
import type { ResolvedInboxOptions } from './inbox-table.js';
import { HOUR, DAY } from '../../time.js';
import { messageOf } from '../../foreign-text.js';

/** A sender of webhooks, and how its webhooks are verified. */
export interface IncomingWebhookSource {
  /**
   * The sender's signature scheme: the name of a built-in scheme, or your own {@link IncomingWebhookScheme}.
   *
   * @defaultValue 'standard'
   */
  scheme?: IncomingWebhookSchemeName | IncomingWebhookScheme;
  /** The sender's secret, in the form that the sender shows. During a rotation, several secrets: any of them may have signed. */
  secrets?: string | readonly string[] | undefined;
  /**
   * The largest allowed difference between a signed timestamp and now, in both directions, in seconds, 1 to 86,400. If it is too
   * small, deliveries are rejected when a clock drifts. If it is too large, an attacker has more time to send a recorded request again.
   * `github` and `google-code` sign no time: for them only the inbox prevents a replay.
   *
   * @defaultValue 300
   */
  toleranceSeconds?: number;
  /**
   * Returns the deduplication key. Overrides the scheme's default. Use only values that the signature covers: an attacker who
   * recorded a request can change the rest, such as `X-GitHub-Delivery`, and have the webhook processed again.
   *
   * @defaultValue `standard`: `webhook-id`; `stripe`: the body's `id`; `github`, `google-code` and a `stripe` body without an id: a hash of the body
   */
  id?: (webhook: IncomingWebhookMessage) => string;
}

/** Options of the inbox. */
export interface IncomingWebhookInboxOptions {
  /** Prefix of the table name. @defaultValue 'webhook_' */
  tablePrefix?: string;
  /** PostgreSQL only: the schema of the table. @defaultValue the data source's `schema`; without one, the first of the `search_path` */
  tableSchema?: string | undefined;
  /**
   * How long ids are kept, in milliseconds, an hour to ten years. Choose more time than the sender needs for all its retries and
   * manual resends: a webhook whose id was deleted is processed again.
   *
   * @defaultValue 2_592_000_000, 30 days
   */
  retentionMs?: number;
}

/** Options of `IncomingWebhooksModule`. */
export interface IncomingWebhooksOptions {
  /** The senders. A key is the name for `@VerifyIncomingWebhook('name')`: 1 to 64 letters, digits, `_` and `-`. */
  sources: Readonly<Record<string, IncomingWebhookSource>>;
  /**
   * Stores the ids of processed webhooks in a table of the data source, for `webhook.processInTransaction()`. Off by default,
   * because it needs a database.
   *
   * @defaultValue false
   */
  inbox?: IncomingWebhookInboxOptions | false;
  /**
   * Where the exact bytes of a body come from. `'nest'`: the application is created with `rawBody: true`; otherwise the bootstrap
   * stops. `'provided'`: the application's own body parser keeps the bytes in `request.rawBody`, or as a `Buffer` in `request.body`;
   * otherwise the first request fails with `RAW_BODY_MISSING`.
   *
   * @defaultValue 'nest'
   */
  rawBody?: 'nest' | 'provided';
  /**
   * Largest body, in bytes, 1 to 64 MiB; a larger body gets 413. The limits of the application's body parsers apply first: Express
   * has 100 KB, which `app.useBodyParser('json', { limit })` changes, and Fastify has 1 MiB.
   *
   * @defaultValue 1_048_576, 1 MiB
   */
  maxBodyBytes?: number;
}

/** Options that must be known while modules are wired, before a factory runs. */
export interface IncomingWebhooksInstanceOptions {
  /** Name of the data source whose database has the inbox. @defaultValue the default data source */
  dataSource?: string;
}

export type IncomingWebhooksModuleOptions = IncomingWebhooksOptions & IncomingWebhooksInstanceOptions;

/** Options from a factory; `dataSource` is known before it runs. */
export interface IncomingWebhooksModuleAsyncOptions extends IncomingWebhooksInstanceOptions {
  imports?: DynamicModule['imports'];
  inject?: FactoryProvider['inject'];
  // oxlint-disable-next-line typescript/no-explicit-any -- the same type as Nest gives the arguments of a factory
  useFactory: (...args: any[]) => IncomingWebhooksOptions | Promise<IncomingWebhooksOptions>;
}

/** @internal */
export interface ResolvedSource {
  readonly name: string;
  readonly scheme: IncomingWebhookScheme;
  readonly secrets: readonly string[];
  readonly toleranceSeconds: number;
  readonly id: ((webhook: IncomingWebhookMessage) => string) | undefined;
}

/** @internal */
export interface ResolvedIncomingWebhooksOptions {
  readonly sources: ReadonlyMap<string, ResolvedSource>;
  readonly inbox: ResolvedInboxOptions | false;
  readonly rawBody: 'nest' | 'provided';
  readonly maxBodyBytes: number;
}

const TEN_YEARS = 3_650 * DAY;
const MIB = 1_024 * 1_024;
const SOURCE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * @internal
 * @throws ConfigurationError `INVALID_OPTION`, or `INVALID_SECRET` for a secret that its scheme cannot use
 */
export async function resolveIncomingWebhooksOptions(
  options: IncomingWebhooksOptions,
): Promise<ResolvedIncomingWebhooksOptions> {
  if (!isObject(options)) throw invalid('options', options, 'Allowed: an object with `sources`');
  // `dataSource` is not allowed here: a factory would return it too late.
  refuseUnknown('', options, ['sources', 'inbox', 'rawBody', 'maxBodyBytes']);
  const { sources, inbox = false, rawBody = 'nest' } = options;
  if (!isObject(sources) || Object.keys(sources).length === 0) {
    throw invalid('sources', sources, "Allowed: an object of senders, such as { billing: { secrets: ['whsec_…'] } }");
  }
  if (rawBody !== 'nest' && rawBody !== 'provided') throw invalid('rawBody', rawBody, "Allowed: 'nest', 'provided'");
  const resolved = new Map<string, ResolvedSource>();
  for (const [name, source] of Object.entries(sources)) resolved.set(name, await resolveSource(name, source));
  return Object.freeze({
    sources: resolved,
    inbox: resolveInbox(inbox),
    rawBody,
    maxBodyBytes: whole('maxBodyBytes', options.maxBodyBytes, MIB, 1, 64 * MIB),
  });
}

async function resolveSource(name: string, source: IncomingWebhookSource): Promise<ResolvedSource> {
  const key = `sources.${name}`;
  if (!SOURCE_NAME.test(name))
    throw invalid('sources', name, 'Allowed as a name: 1 to 64 letters, digits, _ and -', name);
  if (!isObject(source)) throw invalid(key, source, "Allowed: { scheme, secrets: ['…'] }");
  refuseUnknown(`${key}.`, source, ['scheme', 'secrets', 'toleranceSeconds', 'id']);
  const { id } = source;
  if (id !== undefined && typeof id !== 'function') {
    throw invalid(`${key}.id`, id, 'Allowed: a function that returns the id of a webhook');
  }
  const scheme = schemeOf(`${key}.scheme`, source.scheme ?? 'standard');
  const secrets = secretsOf(`${key}.secrets`, source.secrets, scheme.hasSecrets ?? true);
  const toleranceSeconds = whole(`${key}.toleranceSeconds`, source.toleranceSeconds, 5 * 60, 1, DAY / 1_000);
  const resolved = Object.freeze({ name, scheme, secrets, toleranceSeconds, id });
  if (secrets.length > 0) await assertSecretsOfScheme(resolved);
  return resolved;
}

function schemeOf(key: string, given: NonNullable<IncomingWebhookSource['scheme']>): IncomingWebhookScheme {
  if (typeof given === 'string' && Object.hasOwn(INCOMING_WEBHOOK_SCHEMES, given))
    return INCOMING_WEBHOOK_SCHEMES[given];
  if (isObject(given) && typeof given.verify === 'function' && typeof given.name === 'string') return given;
  const known = Object.keys(INCOMING_WEBHOOK_SCHEMES).map((name) => `'${name}'`);
  // A longer text than any scheme's name may be a secret.
  const shown = typeof given === 'string' && given.length <= 12 ? given : '…';
  throw invalid(key, given, `Allowed: ${known.join(', ')}, or an object with a name and verify()`, shown);
}

/** No error shows the value: a mistyped secret is still most of the secret. */
function secretsOf(key: string, given: IncomingWebhookSource['secrets'], hasSecrets: boolean): readonly string[] {
  if (!hasSecrets) {
    if (given === undefined) return [];
    throw invalid(key, '…', 'The scheme of this source uses no secrets. Remove them');
  }
  const secrets = typeof given === 'string' ? [given] : given;
  if (Array.isArray(secrets) && secrets.length > 0 && secrets.every((s) => typeof s === 'string' && s.trim() !== '')) {
    return Object.freeze([...(secrets as string[])]);
  }
  const found = given === undefined || given === '' ? given : '…';
  throw invalid(
    key,
    found,
    'Allowed: the secret that the sender shows, or a list of secrets. Is its environment variable set?',
  );
}

/** Calls `verify()` with an unsigned request: a scheme that can use the secrets rejects it with an `IncomingWebhookError`. */
async function assertSecretsOfScheme({ name, scheme, secrets, toleranceSeconds }: ResolvedSource): Promise<void> {
  const nowSeconds = Math.floor(Date.now() / 1_000);
  const headers = {
    'webhook-id': 'none',
    'webhook-timestamp': String(nowSeconds),
    'webhook-signature': 'v1,none',
  };
  try {
    await scheme.verify({ headers, body: Buffer.from('{}'), secrets, nowSeconds, toleranceSeconds });
  } catch (error) {
    if (error instanceof IncomingWebhookError) return;
    const reason = messageOf(error);
    throw new ConfigurationError(
      error instanceof WebhooksError ? error.code : 'INVALID_OPTION',
      `The scheme '${scheme.name}' cannot use the secrets in \`sources.${name}.secrets\` of IncomingWebhooksModule: ${reason}`,
      { cause: error },
    );
  }
  throw invalid(
    `sources.${name}.scheme`,
    scheme.name,
    'Its verify() accepted an unsigned request. It must throw an IncomingWebhookError',
    scheme.name,
  );
}

function resolveInbox(given: IncomingWebhooksOptions['inbox']): ResolvedIncomingWebhooksOptions['inbox'] {
  if (given === false) return false;
  if (!isObject(given)) throw invalid('inbox', given, 'Allowed: false, or an object; {} for all defaults');
  refuseUnknown('inbox.', given, ['tablePrefix', 'tableSchema', 'retentionMs']);
  const { tablePrefix = DEFAULT_TABLE_PREFIX, tableSchema } = given;
  if (typeof tablePrefix !== 'string' || !/^\w{0,40}$/.test(tablePrefix)) {
    throw invalid('inbox.tablePrefix', tablePrefix, 'Allowed: 0 to 40 characters of A-Z, a-z, 0-9 and _');
  }
  if (tableSchema !== undefined && !isSchemaName(tableSchema)) {
    throw invalid('inbox.tableSchema', tableSchema, 'Allowed: 1 to 63 characters of A-Z, a-z, 0-9 and _');
  }
  return Object.freeze({
    tablePrefix,
    tableSchema,
    retentionMs: whole('inbox.retentionMs', given.retentionMs, 30 * DAY, HOUR, TEN_YEARS),
  });
}

function whole(key: string, given: unknown, byDefault: number, min: number, max: number): number {
  if (given === undefined) return byDefault;
  if (Number.isInteger(given) && (given as number) >= min && (given as number) <= max) return given as number;
  throw invalid(key, given, `Allowed: a whole number from ${min} to ${max}`);
}

function refuseUnknown(prefix: string, given: object, known: readonly string[]): void {
  const key = Object.keys(given).find((name) => !known.includes(name));
  if (key === undefined) return;
  throw unknownOption('IncomingWebhooksModule', key, known, prefix);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Options whose invalid text an error may show. Elsewhere the text may be a secret that was written at the wrong level. */
const HARMLESS = new Set(['rawBody', 'inbox.tablePrefix', 'inbox.tableSchema']);

/** @param text the text that the message shows if `value` is a string */
function invalid(
  key: string,
  value: unknown,
  fix: string,
  text = HARMLESS.has(key) ? String(value) : '…',
): ConfigurationError {
  const shown = typeof value === 'string' ? `'${text}'` : typeof value === 'object' ? 'an object' : String(value);
  return new ConfigurationError(
    'INVALID_OPTION',
    `Invalid value ${shown} for \`${key}\` of IncomingWebhooksModule. ${fix}.`,
  );
}
