import type { DynamicModule, FactoryProvider } from '@nestjs/common';
import { ConfigurationError, WebhooksError } from '../../errors.js';
import { noSuchOption } from '../../known-names.js';
import { DEFAULT_TABLE_PREFIX, isSchemaName } from '../../store/tables.js';
import type { IncomingScheme } from '../incoming-scheme.js';
import { INCOMING_SCHEMES, type IncomingSchemeName } from '../incoming-schemes.js';
import { WebhookVerificationError } from '../webhook-verification-error.js';
import type { ReceivedWebhook } from './received-webhook.js';

/** Somebody whose webhooks are received. */
export interface WebhookSource {
  /**
   * How they sign: one of those that come along, or an {@link IncomingScheme} of your own.
   *
   * @defaultValue 'standard'
   */
  scheme?: IncomingSchemeName | IncomingScheme;
  /** What they sign with, as they showed it; several while one is being replaced: any of them may have signed. */
  secrets?: string | readonly string[] | undefined;
  /**
   * How far a signed timestamp may be from now, either way, in seconds, 1 to 86,400. Too small refuses deliveries when a
   * clock drifts; too large gives somebody who recorded a request longer to send it again. `github` and `google-code` sign no
   * time: there the inbox is all that stops a replay.
   *
   * @defaultValue 300
   */
  toleranceSeconds?: number;
  /**
   * By what a webhook of theirs is known when it comes again, if not by what the scheme says. Anything that the signature does not
   * cover can be changed by whoever recorded a request: with `X-GitHub-Delivery` they can have it processed once more.
   *
   * @defaultValue `standard`: `webhook-id`; `stripe`: the body's `id`; `github`, `google-code` and a `stripe` body without an id: a hash of the body
   */
  id?: (webhook: ReceivedWebhook) => string;
}

/** How ids are remembered. */
export interface WebhookInboxOptions {
  /** Before the table's name. @defaultValue 'webhook_' */
  tablePrefix?: string;
  /** PostgreSQL only: the schema of the table. @defaultValue the data source's `schema`; without one, the first of the `search_path` */
  tableSchema?: string | undefined;
  /**
   * How long ids are kept, in milliseconds, an hour to ten years. It has to be longer than the sender goes on trying, and than
   * somebody there may press "send again": what is forgotten is processed once more.
   *
   * @defaultValue 2_592_000_000, 30 days
   */
  retentionMs?: number;
}

/** {@link WebhookInboxOptions} with every default in place. */
export interface ResolvedInboxOptions {
  readonly tablePrefix: string;
  readonly tableSchema: string | undefined;
  readonly retentionMs: number;
}

/** Options of `WebhookReceiverModule`. */
export interface WebhookReceiverOptions {
  /** By the name that `@VerifyWebhook('name')` says: 1 to 64 letters, digits, `_` and `-`. */
  sources: Readonly<Record<string, WebhookSource>>;
  /**
   * Remembers what was processed, for `webhook.processInTransaction()`, in a table of the data source. Off by default, since it
   * takes a database.
   *
   * @defaultValue false
   */
  inbox?: WebhookInboxOptions | false;
  /**
   * Where the exact bytes come from. `'nest'`: the application is created with `rawBody: true`, and is stopped at its start
   * when it is not. `'provided'`: a parser of the application's own keeps them in `request.rawBody`, or as a `Buffer` in
   * `request.body`; without them the first request fails with `RAW_BODY_MISSING`.
   *
   * @defaultValue 'nest'
   */
  rawBody?: 'nest' | 'provided';
  /**
   * Largest body, in bytes, 1 to 64 MiB; above it the answer is 413. The limits of the application's parsers come first: that
   * of Express is 100 KB unless `app.useBodyParser('json', { limit })` says otherwise, that of Fastify 1 MiB.
   *
   * @defaultValue 1_048_576, 1 MiB
   */
  maxBodyBytes?: number;
}

/** What is known while modules are wired. */
export interface WebhookReceiverInstanceOptions {
  /** Name of the data source whose database has the inbox. @defaultValue the default data source */
  dataSource?: string;
}

export type WebhookReceiverModuleOptions = WebhookReceiverOptions & WebhookReceiverInstanceOptions;

/** Options from a factory; `dataSource` is known before it runs. */
export interface WebhookReceiverModuleAsyncOptions extends WebhookReceiverInstanceOptions {
  imports?: DynamicModule['imports'];
  inject?: FactoryProvider['inject'];
  // oxlint-disable-next-line typescript/no-explicit-any -- as Nest types the arguments of a factory
  useFactory: (...args: any[]) => WebhookReceiverOptions | Promise<WebhookReceiverOptions>;
}

/** @internal */
export interface ResolvedSource {
  readonly name: string;
  readonly scheme: IncomingScheme;
  readonly secrets: readonly string[];
  readonly toleranceSeconds: number;
  readonly id: ((webhook: ReceivedWebhook) => string) | undefined;
}

/** @internal */
export interface ResolvedReceiverOptions {
  readonly sources: ReadonlyMap<string, ResolvedSource>;
  readonly inbox: ResolvedInboxOptions | false;
  readonly rawBody: 'nest' | 'provided';
  readonly maxBodyBytes: number;
}

const HOUR = 60 * 60 * 1_000;
const DAY = 24 * HOUR;
const TEN_YEARS = 3_650 * DAY;
const MIB = 1_024 * 1_024;
const SOURCE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * @internal
 * @throws ConfigurationError `INVALID_OPTION`, or `INVALID_SECRET` for a secret that is none of its scheme
 */
export async function resolveReceiverOptions(options: WebhookReceiverOptions): Promise<ResolvedReceiverOptions> {
  if (!isObject(options)) throw invalid('options', options, 'give an object with `sources`');
  // `dataSource` is not among them: a factory that gives it gives it too late.
  refuseUnknown('', options, ['sources', 'inbox', 'rawBody', 'maxBodyBytes']);
  const { sources, inbox = false, rawBody = 'nest' } = options;
  if (!isObject(sources) || Object.keys(sources).length === 0) {
    throw invalid('sources', sources, "name whom you hear from: { billing: { secrets: ['whsec_…'] } }");
  }
  if (rawBody !== 'nest' && rawBody !== 'provided') throw invalid('rawBody', rawBody, "give 'nest' or 'provided'");
  const resolved = new Map<string, ResolvedSource>();
  for (const [name, source] of Object.entries(sources)) resolved.set(name, await resolveSource(name, source));
  return Object.freeze({
    sources: resolved,
    inbox: resolveInbox(inbox),
    rawBody,
    maxBodyBytes: whole('maxBodyBytes', options.maxBodyBytes, MIB, 1, 64 * MIB),
  });
}

async function resolveSource(name: string, source: WebhookSource): Promise<ResolvedSource> {
  const key = `sources.${name}`;
  if (!SOURCE_NAME.test(name)) throw invalid('sources', name, 'a name has 1 to 64 letters, digits, _ and -', name);
  if (!isObject(source)) throw invalid(key, source, "give { scheme, secrets: ['…'] }");
  refuseUnknown(`${key}.`, source, ['scheme', 'secrets', 'toleranceSeconds', 'id']);
  const { id } = source;
  if (id !== undefined && typeof id !== 'function') {
    throw invalid(`${key}.id`, id, 'give a function from the webhook to its id');
  }
  const scheme = schemeOf(`${key}.scheme`, source.scheme ?? 'standard');
  const secrets = secretsOf(`${key}.secrets`, source.secrets, scheme.hasSecrets ?? true);
  const toleranceSeconds = whole(`${key}.toleranceSeconds`, source.toleranceSeconds, 5 * 60, 1, DAY / 1_000);
  const resolved = Object.freeze({ name, scheme, secrets, toleranceSeconds, id });
  if (secrets.length > 0) await assertSecretsOfScheme(resolved);
  return resolved;
}

function schemeOf(key: string, given: NonNullable<WebhookSource['scheme']>): IncomingScheme {
  if (typeof given === 'string' && Object.hasOwn(INCOMING_SCHEMES, given)) return INCOMING_SCHEMES[given];
  if (isObject(given) && typeof given.verify === 'function' && typeof given.name === 'string') return given;
  const known = Object.keys(INCOMING_SCHEMES).map((name) => `'${name}'`);
  // Longer than any name of a scheme, it may be the secret.
  const shown = typeof given === 'string' && given.length <= 12 ? given : '…';
  throw invalid(key, given, `give ${known.join(', ')}, or an object with a name and verify()`, shown);
}

/** Never shows what was given: a secret with a typing error is still most of a secret. */
function secretsOf(key: string, given: WebhookSource['secrets'], hasSecrets: boolean): readonly string[] {
  if (!hasSecrets) {
    if (given === undefined) return [];
    throw invalid(key, '…', 'its scheme takes none, leave them out');
  }
  const secrets = typeof given === 'string' ? [given] : given;
  if (Array.isArray(secrets) && secrets.length > 0 && secrets.every((s) => typeof s === 'string' && s.trim() !== '')) {
    return Object.freeze([...(secrets as string[])]);
  }
  const found = given === undefined || given === '' ? given : '…';
  throw invalid(
    key,
    found,
    'give the secret that the sender showed, or a list of them. Is its environment variable set?',
  );
}

/** A request that nobody signed: refused by a scheme that can use the secrets. */
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
    if (error instanceof WebhookVerificationError) return;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigurationError(
      error instanceof WebhooksError ? error.code : 'INVALID_OPTION',
      `The scheme '${scheme.name}' cannot use the option sources.${name}.secrets of WebhookReceiverModule: ${reason}`,
      { cause: error },
    );
  }
  throw invalid(
    `sources.${name}.scheme`,
    scheme.name,
    'it accepted a request that nobody signed: its verify() has to throw',
    scheme.name,
  );
}

function resolveInbox(given: WebhookReceiverOptions['inbox']): ResolvedReceiverOptions['inbox'] {
  if (given === false) return false;
  if (!isObject(given)) throw invalid('inbox', given, 'give { } for every default, or false');
  refuseUnknown('inbox.', given, ['tablePrefix', 'tableSchema', 'retentionMs']);
  const { tablePrefix = DEFAULT_TABLE_PREFIX, tableSchema } = given;
  if (typeof tablePrefix !== 'string' || !/^\w{0,40}$/.test(tablePrefix)) {
    throw invalid('inbox.tablePrefix', tablePrefix, 'give 0 to 40 of A-Z, a-z, 0-9 and _');
  }
  if (tableSchema !== undefined && !isSchemaName(tableSchema)) {
    throw invalid('inbox.tableSchema', tableSchema, 'give 1 to 63 of A-Z, a-z, 0-9 and _');
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
  throw invalid(key, given, `give a whole number from ${min} to ${max}`);
}

function refuseUnknown(prefix: string, given: object, known: readonly string[]): void {
  const key = Object.keys(given).find((name) => !known.includes(name));
  if (key === undefined) return;
  throw invalid(prefix + key, '…', noSuchOption(key, known));
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Options whose wrong value may be shown. A text in the place of any other may be a secret that was put a level too high. */
const HARMLESS = new Set(['rawBody', 'inbox.tablePrefix', 'inbox.tableSchema']);

/** @param text what is shown of a text */
function invalid(
  key: string,
  value: unknown,
  fix: string,
  text = HARMLESS.has(key) ? String(value) : '…',
): ConfigurationError {
  const shown = typeof value === 'string' ? `'${text}'` : typeof value === 'object' ? 'an object' : String(value);
  return new ConfigurationError(
    'INVALID_OPTION',
    `The option ${key} of WebhookReceiverModule is ${shown}: ${fix}${fix.endsWith('?') ? '' : '.'}`,
  );
}
