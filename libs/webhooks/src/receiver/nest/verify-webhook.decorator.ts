import {
  applyDecorators,
  HttpException,
  HttpStatus,
  Inject,
  Injectable,
  Optional,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Observable } from 'rxjs';
import { ConfigurationError } from '../../errors.js';
import type { ReceivedRequest } from '../../raw-body/raw-body.js';
import { challengeOf } from '../challenge.js';
import { depthOf, withIncomingWebhook } from '../incoming-webhook.js';
import { WEBHOOK, type WithWebhook } from './incoming-webhook.decorator.js';
import type { WebhookVerifier } from './webhook-verifier.js';

/** @internal */
export const VERIFIER = Symbol('nestjs-entity-webhooks:webhook-verifier');

/**
 * Lets only genuine webhooks of a source through to a handler, or to all of a controller; anybody else gets a plain 401.
 * The handler takes the webhook with `@IncomingWebhook()`, and what it writes counts as caused by it (`WEBHOOK_LOOP`).
 *
 * A genuine challenge, by which a sender asks whether webhooks are welcome (`handshake: 'challenge'`), is answered here, and no handler
 * hears of it.
 *
 * A source that the module does not have stops the bootstrap with `UNKNOWN_SOURCE`, no module at all with
 * `RECEIVER_MODULE_MISSING`. Global guards come before it: open the route to them if they ask for a login.
 *
 * @example
 * \@Post('hooks/billing')
 * \@HttpCode(204)
 * \@VerifyWebhook('billing')
 * async receive(@IncomingWebhook() webhook: ReceivedWebhook<Invoice>): Promise<void> {}
 */
export function VerifyWebhook(source: string): ClassDecorator & MethodDecorator {
  // A class for each use: Nest makes it while the application starts, and the name is checked then.
  @Injectable()
  class VerifyWebhookGuard implements CanActivate {
    constructor(@Optional() @Inject(VERIFIER) private readonly verifier: WebhookVerifier | undefined) {
      if (!verifier) {
        throw new ConfigurationError(
          'RECEIVER_MODULE_MISSING',
          `@VerifyWebhook('${source}') needs WebhookReceiverModule.forRoot({ sources: { ${source}: { secrets: […] } } }) among the imports of your root module.`,
        );
      }
      verifier.assertSource(source);
    }

    async canActivate(context: ExecutionContext): Promise<boolean> {
      const request = context.switchToHttp().getRequest<ReceivedRequest & WithWebhook>();
      const webhook = await (this.verifier as WebhookVerifier).receive(source, request);
      const challenge = challengeOf(webhook);
      // As an exception: no handler, pipe or interceptor of the application is to see it, or to change the answer or its status.
      if (challenge !== null) throw new HttpException({ challenge }, HttpStatus.OK);
      request[WEBHOOK] = webhook;
      return true;
    }
  }
  return applyDecorators(UseGuards(VerifyWebhookGuard), UseInterceptors(CausedByWebhook));
}

/** What the handler writes is caused by the webhook, so that one that makes itself again is noticed: see `withIncomingWebhook`. */
class CausedByWebhook implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
    const depth = webhook ? depthOf(webhook.headers) : 0;
    return new Observable((subscriber) => withIncomingWebhook({ depth }, () => next.handle().subscribe(subscriber)));
  }
}
