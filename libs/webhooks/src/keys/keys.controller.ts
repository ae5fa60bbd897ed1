import { Controller, Get, Inject, NotFoundException, Param, Res, VERSION_NEUTRAL, type Type } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { ListenerNotFoundError } from '../listener-errors.js';
import { ListenerService } from '../listeners/listener.service.js';
import type { WebhookKeySet } from '../signing/ed25519-key.js';

/** Token of the `ListenerService` whose keys are served. @internal */
export const LISTENERS = Symbol('nestjs-entity-webhooks:keys-listeners');

/**
 * How long a receiver may cache the keys, in seconds. This time is much shorter than the overlap of a rotation. During the overlap, both
 * the old key and the new key are served.
 */
const MAX_AGE_SECONDS = 5 * 60;

/** Creates a separate controller class for each `forRoot`, because Nest stores the path and the guards on the class. @internal */
export function keysController(path: string, decorators: readonly ClassDecorator[]): Type {
  @Controller({ path, version: VERSION_NEUTRAL })
  class WebhooksKeysController {
    constructor(
      @Inject(LISTENERS) private readonly listeners: ListenerService,
      @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
    ) {}

    @Get(':listenerId')
    async keys(
      @Param('listenerId') listenerId: string,
      @Res({ passthrough: true }) response: unknown,
    ): Promise<WebhookKeySet> {
      const setCacheControl = (directive: string): void => {
        this.host.httpAdapter.setHeader(response, 'Cache-Control', directive);
      };
      // Set Cache-Control before any code can fail, because a cache may store a 404 without Cache-Control (RFC 9111,
      // 4.2.2).
      setCacheControl('no-store');
      try {
        const keys = await this.listeners.keySet(listenerId);
        setCacheControl(`public, max-age=${MAX_AGE_SECONDS}`);
        return keys;
      } catch (error) {
        if (error instanceof ListenerNotFoundError) throw new NotFoundException();
        throw error;
      }
    }
  }
  for (const decorate of decorators) decorate(WebhooksKeysController);
  return WebhooksKeysController;
}
