import type { DynamicModule, FactoryProvider } from '@nestjs/common';
import { ConfigurationError, WebhooksError } from '../../errors.js';
import { DATA_SOURCE, isText, RAW_BODY, TABLE_PREFIX, TABLE_SCHEMA } from '../../module-options.js';
import {
  bytes,
  canBeOff,
  group,
  invalidOption,
  isObject,
  milliseconds,
  option,
  optionalFunction,
  seconds,
  secret,
  within,
  type Option,
  type OptionModule,
  type OptionPlace,
  type OptionTable,
  type Resolved,
} from '../../option-table.js';
import type { IncomingWebhookScheme } from '../incoming-webhook-scheme.js';
import { INCOMING_WEBHOOK_SCHEMES, type IncomingWebhookSchemeName } from '../incoming-webhook-schemes.js';
import { IncomingWebhookError } from '../incoming-webhook-error.js';
import type { IncomingWebhookMessage } from './incoming-webhook-message.js';
import { DAY, HOUR, SECOND } from '../../time.js';
import { messageOf } from '../../foreign-text.js';

/** A sender of webhooks, and the settings for the verification of its webhooks. */
export interface IncomingWebhookSource {
  /**
   * The signature scheme of the sender: the name of a built-in scheme, or your own {@link IncomingWebhookScheme}.
   *
   * @defaultValue 'standard'
   */
  scheme?: IncomingWebhookSchemeName | IncomingWebhookScheme;
  /**
   * The secret of the sender, in the form that the sender shows. During a rotation, give several secrets: each of these
   * secrets may have signed a request.
   *
   * @defaultValue no secret; only a scheme without secrets allows this default
   */
  secrets?: string | readonly string[] | undefined;
  /**
   * The largest allowed difference between a signed timestamp and now, in both directions. In seconds, 1 to 86,400. If the value is too
   * small, deliveries are rejected when a clock drifts. If the value is too large, an attacker has more time to send a recorded request
   * again. `github` and `google-code` sign no time. With these schemes, only the inbox prevents a replay.
   *
   * @defaultValue 300
   */
  toleranceSeconds?: number;
  /**
   * A function that returns the deduplication key. It overrides the default of the scheme. Use only values that the signature covers. An
   * attacker who recorded a request can change other values, such as `X-GitHub-Delivery`. Then the webhook would be processed again.
   *
   * @defaultValue `standard`: `webhook-id`; `stripe`: the body's `id`; `github`, `google-code` and a `stripe` body without an id: a hash of the body
   */
  id?: (webhook: IncomingWebhookMessage) => string;
}

/** Options of the inbox. */
export interface IncomingWebhookInboxOptions {
  /** Prefix of the table name. @defaultValue 'webhook_' */
  tablePrefix?: string;
  /**
   * PostgreSQL only: the schema of the table. @defaultValue the `schema` of the data source; if the data source has no `schema`, the
   * first schema of the `search_path`
   */
  tableSchema?: string | undefined;
  /**
   * How long ids are kept, in milliseconds. From an hour to ten years. The time must be longer than the sender needs for all
   * retries and manual resends, because a webhook whose id was deleted is processed again.
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
   * Whether the ids of processed webhooks are stored in a table of the data source, for `webhook.processInTransaction()`. The
   * inbox is off by default, because it needs a database.
   *
   * @defaultValue false
   */
  inbox?: IncomingWebhookInboxOptions | false;
  /**
   * The parser that keeps the exact bytes of a body. `'nest'`: the application is created with `rawBody: true`. Otherwise the
   * bootstrap stops. `'provided'`: the application's own body parser keeps the bytes in `request.rawBody`, or as a `Buffer` in
   * `request.body`. Otherwise the first request fails with `RAW_BODY_MISSING`.
   *
   * @defaultValue 'nest'
   */
  rawBody?: 'nest' | 'provided';
  /**
   * Maximum size of a body, in bytes. A larger body is answered with 413. From 1 byte to 64 MiB. The limits of the application's
   * body parsers apply first. The limit of Express is 100 KB, and `app.useBodyParser('json', { limit })` changes it. The limit of
   * Fastify is 1 MiB.
   *
   * @defaultValue 1_048_576, 1 MiB
   */
  maxBodyBytes?: number;
}

/** Options that Nest needs before a factory runs. */
export interface IncomingWebhooksInstanceOptions {
  /**
   * Name of the data source whose database has the inbox. In `forRootAsync`, set `dataSource` beside `useFactory`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
}

export type IncomingWebhooksModuleOptions = IncomingWebhooksOptions & IncomingWebhooksInstanceOptions;

/** Options from a factory. Only `dataSource` must be known before the factory runs. */
export interface IncomingWebhooksModuleAsyncOptions extends IncomingWebhooksInstanceOptions {
  imports?: DynamicModule['imports'];
  inject?: FactoryProvider['inject'];
  // oxlint-disable-next-line typescript/no-explicit-any -- the same type as Nest gives the arguments of a factory
  useFactory: (...args: any[]) => IncomingWebhooksOptions | Promise<IncomingWebhooksOptions>;
}

// Each group of options has one table with every default and every check. docs/receiving/nest.md is made from these tables and from the
// interfaces above.

/**
 * Errors show only texts of at most this length, because a developer may write the secret of a source in the wrong place. The names of
 * all schemes are shorter.
 */
const MAX_SHOWN = 12;
const SCHEMES = `${Object.keys(INCOMING_WEBHOOK_SCHEMES)
  .map((name) => `'${name}'`)
  .join(', ')}, or an object with a name and verify()`;

const SCHEME: Option<IncomingWebhookSchemeName | IncomingWebhookScheme, IncomingWebhookScheme> = {
  default: "'standard'",
  allowed: SCHEMES,
  resolve: (given = 'standard', place) => {
    if (typeof given !== 'string' && isScheme(given)) return given;
    if (typeof given === 'string' && Object.hasOwn(INCOMING_WEBHOOK_SCHEMES, given))
      return INCOMING_WEBHOOK_SCHEMES[given];
    throw invalidOption({ ...place, isSecret: String(given).length > MAX_SHOWN }, given, SCHEMES);
  },
};

const SECRETS = {
  allowed: 'the secret that the sender shows, or a list of secrets',
  fix: 'Is its environment variable set?',
};

const SOURCE = {
  scheme: SCHEME,
  secrets: option<string | readonly string[], readonly string[]>([], {
    ...SECRETS,
    isAllowed: (given) => secretsIn(given).length > 0 && secretsIn(given).every(isText),
    read: (given) => Object.freeze([...secretsIn(given)] as string[]),
  }),
  toleranceSeconds: seconds(300, [1, DAY / SECOND]),
  id: optionalFunction<(webhook: IncomingWebhookMessage) => string>('a function that returns the id of a webhook'),
} satisfies OptionTable<IncomingWebhookSource>;

const INBOX = {
  tablePrefix: TABLE_PREFIX,
  tableSchema: TABLE_SCHEMA,
  retentionMs: milliseconds(30 * DAY, [HOUR, 3_650 * DAY]),
} satisfies OptionTable<IncomingWebhookInboxOptions>;

const source = group(SOURCE, withSecretsOfScheme);

const SENDERS = "an object of senders, such as { billing: { secrets: ['whsec_…'] } }";

const SOURCES: Option<IncomingWebhooksOptions['sources'], ReadonlyMap<string, ResolvedSource>> = {
  default: 'required',
  allowed: SENDERS,
  table: { '<name>': source },
  resolve: (given, place) => {
    if (!isObject(given) || Object.keys(given).length === 0) throw invalidOption(place, given, SENDERS);
    return new Map(Object.entries(given).map(([name, options]) => [name, resolveSource(name, options, place)]));
  },
};

const OPTIONS = {
  sources: SOURCES,
  inbox: canBeOff(group(INBOX), false),
  rawBody: RAW_BODY,
  maxBodyBytes: bytes(1_024 ** 2, [1, 64 * 1_024 ** 2]),
} satisfies OptionTable<IncomingWebhooksOptions>;

/** Every option of `IncomingWebhooksModule.forRoot()`. @internal */
export const INCOMING_WEBHOOKS_OPTIONS = {
  ...OPTIONS,
  dataSource: DATA_SOURCE,
} satisfies OptionTable<IncomingWebhooksModuleOptions>;

/** @internal */
export interface ResolvedSource extends Resolved<typeof SOURCE> {
  readonly name: string;
}

/** @internal */
export type ResolvedIncomingWebhooksOptions = Resolved<typeof OPTIONS>;

const MODULE: OptionModule = {
  name: 'IncomingWebhooksModule',
  hints: {
    '': 'Give at least { sources: { … } }.',
    dataSource: 'Set this option beside `useFactory`, because Nest needs the option before the factory runs.',
  },
};

/**
 * @internal
 * @throws ConfigurationError `INVALID_OPTION`, or `INVALID_SECRET` for a secret that its scheme cannot use
 */
export async function resolveIncomingWebhooksOptions(
  options: IncomingWebhooksOptions,
): Promise<ResolvedIncomingWebhooksOptions> {
  const resolved = secret(group(OPTIONS)).resolve(options, { module: MODULE, key: '' });
  for (const source of resolved.sources.values()) if (source.secrets.length > 0) await assertSecretsOfScheme(source);
  return resolved;
}

function resolveSource(name: string, options: IncomingWebhookSource, place: OptionPlace): ResolvedSource {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(name)) {
    throw invalidOption({ ...place, isSecret: false }, name, 'names of 1 to 64 letters, digits, _ and -');
  }
  return Object.freeze({ name, ...source.resolve(options, within(place, name)) });
}

function withSecretsOfScheme(source: Resolved<typeof SOURCE>, place: OptionPlace): Resolved<typeof SOURCE> {
  const { scheme, secrets } = source;
  if ((scheme.hasSecrets ?? true) === secrets.length > 0) return source;
  const here = within(place, 'secrets');
  if (secrets.length > 0) throw invalidOption(here, '…', 'none, because the scheme of this source uses no secrets');
  throw invalidOption(here, undefined, SECRETS.allowed, SECRETS.fix);
}

function isScheme(given: unknown): boolean {
  return isObject(given) && typeof given.verify === 'function' && typeof given.name === 'string';
}

function secretsIn(given: unknown): readonly unknown[] {
  return Array.isArray(given) ? given : [given];
}

/**
 * Calls `verify()` with an unsigned request. If the scheme can use the secrets, it rejects this request with an
 * `IncomingWebhookError`.
 */
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
      `The scheme '${scheme.name}' cannot use the secrets in \`sources.${name}.secrets\` of ${MODULE.name}: ${reason}`,
      { cause: error },
    );
  }
  throw invalidOption(
    { module: MODULE, key: `sources.${name}.scheme` },
    scheme.name,
    'a scheme whose verify() rejects an unsigned request with an IncomingWebhookError',
    'The given scheme accepted an unsigned request.',
  );
}
