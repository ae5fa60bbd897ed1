import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import { ConfigurationError } from '../../errors.js';
import type { IncomingWebhookMessage } from './incoming-webhook-message.js';

/** Key of the request property in which the guard stores the webhook. @internal */
export const WEBHOOK = Symbol('nestjs-entity-webhooks:webhook');

/** @internal */
export interface WithWebhook {
  [WEBHOOK]?: IncomingWebhookMessage;
}

/**
 * Passes the verified webhook, an {@link IncomingWebhookMessage}, to a parameter of a handler with `@VerifyIncomingWebhook()`.
 *
 * @throws ConfigurationError `WEBHOOK_NOT_VERIFIED` (answered with 500) on a handler without `@VerifyIncomingWebhook()`
 */
export const IncomingWebhookParam = createParamDecorator(
  (_: unknown, context: ExecutionContext): IncomingWebhookMessage => {
    const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
    if (webhook) return webhook;
    throw new ConfigurationError(
      'WEBHOOK_NOT_VERIFIED',
      `${context.getClass().name}.${context.getHandler().name} has an @IncomingWebhookParam() parameter, but no guard verified the request. Add @VerifyIncomingWebhook('…') to the handler.`,
    );
  },
);
