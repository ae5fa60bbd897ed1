import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ConfigurationError } from '../../errors.js';
import type { ReceivedWebhook } from './received-webhook.js';

/** Key of the request property in which the guard stores the webhook. @internal */
export const WEBHOOK = Symbol('nestjs-entity-webhooks:webhook');

/** @internal */
export interface WithWebhook {
  [WEBHOOK]?: ReceivedWebhook;
}

/**
 * Passes the verified webhook, a {@link ReceivedWebhook}, to a parameter of a handler with `@VerifyWebhook()`.
 *
 * @throws ConfigurationError `WEBHOOK_NOT_VERIFIED` (answered with 500) on a handler without `@VerifyWebhook()`
 */
export const IncomingWebhook = createParamDecorator((_: unknown, context: ExecutionContext): ReceivedWebhook => {
  const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
  if (webhook) return webhook;
  throw new ConfigurationError(
    'WEBHOOK_NOT_VERIFIED',
    `${context.getClass().name}.${context.getHandler().name} has an @IncomingWebhook() parameter, but no guard verified the request. Add @VerifyWebhook('…') to the handler.`,
  );
});
