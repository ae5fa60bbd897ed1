import { Module, type DynamicModule } from '@nestjs/common';
import { ConfigurationError } from '../errors.js';
import { noSuchOption } from '../known-names.js';
import type { ListenerService } from '../listeners/listener.service.js';
import { DEFAULT_INSTANCE, getListenersToken } from '../tokens.js';
import { keysController, LISTENERS } from './keys.controller.js';

/** Options of {@link WebhooksKeysModule}. */
export interface WebhooksKeysOptions {
  /** Where the keys are, below the application's global prefix; versioning does not apply. @defaultValue `'webhooks/keys'` */
  path?: string;
  /**
   * Which instance's listeners: the name of its data source, as in `WebhooksModule.forRoot({ dataSource })`.
   *
   * @defaultValue the default data source
   */
  dataSource?: string;
  /**
   * Put on the controller: the application's `Public()` where a global guard asks everybody to log in. Whoever asks is a
   * receiver, with no account here.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
}

const DEFAULT_PATH = 'webhooks/keys';
const KNOWN_KEYS: readonly string[] = ['path', 'dataSource', 'decorators'] satisfies (keyof WebhooksKeysOptions)[];

/**
 * Serves the public keys that receivers verify Ed25519 signatures with: `GET <path>/<id of the listener>` answers with
 * `{ "keys": [ … ] }`, a JSON Web Key Set whose keys also carry `whpk`, the same key as Standard Webhooks writes it.
 *
 * Two keys while a rotation overlaps, none for a listener that has no Ed25519 scheme, 404 for one that is not there. Public keys
 * are no secret: the route needs no login.
 *
 * @example imports: [WebhooksModule.forRoot(), WebhooksKeysModule.forRoot()]
 */
@Module({})
export class WebhooksKeysModule {
  /** @throws ConfigurationError `INVALID_OPTION` here; while the application starts `WEBHOOKS_MODULE_MISSING` */
  static forRoot(options: WebhooksKeysOptions = {}): DynamicModule {
    const { path = DEFAULT_PATH, dataSource = DEFAULT_INSTANCE, decorators = [] } = options;
    const unknown = Object.keys(options).find((key) => !KNOWN_KEYS.includes(key));
    if (unknown !== undefined) throw invalid(unknown, noSuchOption(unknown, KNOWN_KEYS));
    if (typeof path !== 'string' || path.trim() === '') throw invalid('path', "give a path such as 'webhooks/keys'");
    if (typeof dataSource !== 'string' || dataSource === '')
      throw invalid('dataSource', 'give the name of a data source');
    if (!Array.isArray(decorators) || decorators.some((decorate) => typeof decorate !== 'function')) {
      throw invalid('decorators', 'give a list of class decorators, called: [Public()]');
    }
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
              `WebhooksKeysModule serves keys of the data source '${dataSource}', which no WebhooksModule serves. Import WebhooksModule.forRoot() for it in your root module.`,
            );
          },
          inject: [{ token: getListenersToken(dataSource), optional: true }],
        },
      ],
    };
  }
}

function invalid(key: string, fix: string): ConfigurationError {
  return new ConfigurationError('INVALID_OPTION', `The option ${key} of WebhooksKeysModule is wrong: ${fix}.`);
}
