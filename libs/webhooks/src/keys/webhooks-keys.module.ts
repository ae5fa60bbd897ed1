import { Module, type DynamicModule } from '@nestjs/common';
import { ConfigurationError } from '../errors.js';
import type { ListenerService } from '../listeners/listener.service.js';
import { getListenersToken } from '../tokens.js';
import { DATA_SOURCE, DECORATORS, pathOption } from '../module-options.js';
import { resolveTable, type OptionTable } from '../option-table.js';
import { keysController, LISTENERS } from './keys.controller.js';

/** Options of {@link WebhooksKeysModule}. */
export interface WebhooksKeysOptions {
  /**
   * Path of the route for the keys, below the global prefix of the application. Nest's versioning does not apply to
   * this route.
   *
   * @defaultValue `'webhooks/keys'`
   */
  path?: string;
  /**
   * The instance whose keys are served. Give the name of its data source, as in `WebhooksModule.forRoot({ dataSource
   * })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  /**
   * Decorators for the controller, such as the application's `Public()` if a global guard requires a login. The caller
   * is a receiver and has no account in this application.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
}

/** Every option of `WebhooksKeysModule.forRoot()`. */
export const KEYS_OPTIONS = {
  path: pathOption('webhooks/keys'),
  dataSource: DATA_SOURCE,
  decorators: DECORATORS,
} satisfies OptionTable<WebhooksKeysOptions>;

/**
 * Serves the public keys with which receivers verify Ed25519 signatures. `GET <path>/<id of the listener>` answers `{
 * "keys": [ … ] }`, a JSON Web Key Set. Each key also has `whpk`, the same key in the form of Standard Webhooks.
 *
 * While the keys of a rotation overlap, the set has two keys. For a listener without an Ed25519 scheme, the set is
 * empty. The answer is 404 for an unknown listener. Public keys are not secret, so the route needs no login.
 *
 * @example imports: [WebhooksModule.forRoot(), WebhooksKeysModule.forRoot()]
 */
@Module({})
export class WebhooksKeysModule {
  /** @throws ConfigurationError `INVALID_OPTION` immediately; `WEBHOOKS_MODULE_MISSING` when the application starts */
  static forRoot(options: WebhooksKeysOptions = {}): DynamicModule {
    const { path, dataSource, decorators } = resolveTable(KEYS_OPTIONS, options, { name: 'WebhooksKeysModule' });
    return {
      module: WebhooksKeysModule,
      controllers: [keysController(path, decorators)],
      providers: [
        {
          provide: LISTENERS,
          useFactory: (listeners: ListenerService | undefined) => {
            if (listeners) return listeners;
            throw new ConfigurationError(
              'WEBHOOKS_MODULE_MISSING',
              `WebhooksKeysModule serves keys for the data source '${dataSource}', but no WebhooksModule is imported for it. Import WebhooksModule.forRoot() for this data source in your root module.`,
            );
          },
          inject: [{ token: getListenersToken(dataSource), optional: true }],
        },
      ],
    };
  }
}
