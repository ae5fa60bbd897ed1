import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ConfigurationError } from '../../errors.js';
import type { ReceivedWebhook } from './received-webhook.js';

/** Where the guard leaves the webhook on its request. @internal */
export const WEBHOOK = Symbol('nestjs-entity-webhooks:webhook');

/** @internal */
export interface WithWebhook {
  [WEBHOOK]?: ReceivedWebhook;
}

/**
 * The verified webhook, as a parameter of a handler that `@VerifyWebhook()` guards: a {@link ReceivedWebhook}.
 *
 * @throws ConfigurationError `WEBHOOK_NOT_VERIFIED`, a 500, on a handler that nothing guards
 */
export const IncomingWebhook = createParamDecorator((_: unknown, context: ExecutionContext): ReceivedWebhook => {
  const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
  if (webhook) return webhook;
  throw new ConfigurationError(
    'WEBHOOK_NOT_VERIFIED',
    `${context.getClass().name}.${context.getHandler().name} takes an @IncomingWebhook() that nobody verified: put @VerifyWebhook('…') on it.`,
  );
});
