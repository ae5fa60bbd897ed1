import type { CanActivate, Type } from '@nestjs/common';
import { DATA_SOURCE, DECORATORS, pathOption } from '../module-options.js';
import {
  flag,
  group,
  milliseconds,
  option,
  optional,
  optionalGroup,
  required,
  secret,
  whole,
  type OptionTable,
} from '../option-table.js';
import { sealingKeys } from '../options/sealing-keys.js';
import type { SealingKeyOptions } from '../options/webhooks-options.js';
import { DAY, MINUTE } from '../time.js';
import { OPEN_ACCESS, type AccessResolver } from './access.js';
import type { SessionKey } from './sessions.js';

/** Options of `WebhooksApiModule.forRoot()`. */
export interface WebhooksApiOptions {
  /**
   * Who calls: a function of the request that returns an operator, an owner with capabilities, or `null` for nobody. It runs after
   * {@link guards}. `OPEN_ACCESS` makes every caller an operator.
   */
  access: AccessResolver | typeof OPEN_ACCESS;
  /**
   * Path of the API, below the global prefix of the application. The routes are below `/v1` of it. Versioning does not apply.
   *
   * @defaultValue `'webhooks'`
   */
  path?: string;
  /**
   * The instance that is served; each instance needs its own `forRoot` and path. Give the name of its data source, as in
   * `WebhooksModule.forRoot({ dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  /**
   * Whether the API serves every shard of `WebhooksShardsModule`, in place of one data source. See `docs/scaling.md`.
   *
   * @defaultValue false
   */
  shards?: boolean;
  /**
   * Guards of the application, classes or instances. They run in this order. They do not run for requests with a session token.
   *
   * @defaultValue none
   */
  guards?: readonly (Type<CanActivate> | CanActivate)[];
  /**
   * Modules that export the dependencies of the guards.
   *
   * @defaultValue none
   */
  imports?: readonly Type[];
  /**
   * Decorators for the controller, such as the application's `Public()` if a global guard requires a login.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
  /**
   * Sessions: tokens with which a page in a browser or another program calls the API.
   *
   * @defaultValue no sessions
   */
  sessions?: ApiSessionOptions;
  /** Who may read the event types. */
  catalog?: ApiCatalogOptions;
  /** Limits of requests, for each principal and process. */
  limits?: ApiLimitOptions;
  /**
   * The addresses from which webhooks are sent, as CIDR ranges. `GET /sender` shows them, for firewalls of receivers.
   *
   * @defaultValue none
   */
  senderAddresses?: readonly string[];
}

/** Sessions of the API. */
export interface ApiSessionOptions {
  /** Keys that sign the tokens: the first signs, the others verify older tokens. `openssl rand -base64 32` makes a key. */
  keys: readonly SealingKeyOptions[];
  /**
   * The longest time that a session may last.
   *
   * @defaultValue 86_400_000 (1 day)
   */
  maxTtlMs?: number;
}

/** Who may read the event types. */
export interface ApiCatalogOptions {
  /**
   * Whether everybody may read the event types to which owners may subscribe, and their documents, without a login. For these routes
   * neither {@link WebhooksApiOptions.guards} nor `access` runs, and no limit applies. A request with a session token still gets the types
   * of its caller.
   *
   * @defaultValue false
   */
  public?: boolean;
}

/** Limits of requests. */
export interface ApiLimitOptions {
  /**
   * `GET` requests of one principal a minute.
   *
   * @defaultValue 600
   */
  readsPerMinute?: number;
  /**
   * Other requests of one principal a minute.
   *
   * @defaultValue 60
   */
  writesPerMinute?: number;
  /**
   * Previews (`POST /listeners/preview`) of one principal a minute. They do not count as other requests.
   *
   * @defaultValue 30
   */
  previewsPerMinute?: number;
  /**
   * Checks of a URL (`POST /listeners/check-url`) of one principal a minute. They do not count as other requests.
   *
   * @defaultValue 30
   */
  urlChecksPerMinute?: number;
  /**
   * Streams that one principal may have open at the same time. 0 switches the stream off.
   *
   * @defaultValue 10
   */
  streams?: number;
}

const SESSIONS = group({
  keys: secret(
    required<readonly SealingKeyOptions[], readonly SessionKey[]>({
      allowed: "an array such as `[{ id: '2026-11', key }]`",
      isAllowed: (given) => Array.isArray(given) && given.length > 0,
      read: (given, place) => sealingKeys(given, place),
    }),
  ),
  maxTtlMs: milliseconds(DAY, [5 * MINUTE, 7 * DAY]),
});

/** Every option of `WebhooksApiModule.forRoot()`. */
export const API_OPTIONS = {
  access: required<WebhooksApiOptions['access']>({
    allowed: 'a function of the request, OPEN_ACCESS',
    isAllowed: (given) => typeof given === 'function' || given === OPEN_ACCESS,
  }),
  path: pathOption('webhooks'),
  dataSource: DATA_SOURCE,
  shards: flag(false),
  guards: option<readonly (Type<CanActivate> | CanActivate)[]>(Object.freeze([]), {
    allowed: 'an array of guards',
    isAllowed: (given) => Array.isArray(given) && given.every(isGuard),
  }),
  imports: option<readonly Type[]>(Object.freeze([]), {
    allowed: 'an array of modules',
    isAllowed: (given) => Array.isArray(given),
  }),
  decorators: DECORATORS,
  sessions: optionalGroup(SESSIONS),
  catalog: group({ public: flag(false) }),
  limits: group({
    readsPerMinute: whole(600, [1, 1_000_000]),
    writesPerMinute: whole(60, [1, 1_000_000]),
    previewsPerMinute: whole(30, [1, 1_000_000]),
    urlChecksPerMinute: whole(30, [1, 1_000_000]),
    streams: whole(10, [0, 1_000]),
  }),
  senderAddresses: optional<readonly string[]>({
    allowed: 'an array of texts',
    isAllowed: (given) => Array.isArray(given) && given.every((one) => typeof one === 'string'),
  }),
} satisfies OptionTable<WebhooksApiOptions>;

function isGuard(given: unknown): boolean {
  if (typeof given === 'function') return true;
  return typeof (given as CanActivate | null)?.canActivate === 'function';
}
