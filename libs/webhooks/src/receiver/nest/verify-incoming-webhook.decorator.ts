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
import { WEBHOOK, type WithWebhook } from './incoming-webhook-param.decorator.js';
import type { IncomingWebhookVerifier } from './incoming-webhook-verifier.js';

/** @internal */
export const VERIFIER = Symbol('nestjs-entity-webhooks:webhook-verifier');

/**
 * Guards a handler, or all handlers of a controller: only verified webhooks of a source pass, and every other request gets a plain
 * 401. The handler gets the webhook with `@IncomingWebhookParam()`. Its writes count as caused by the webhook, so that loops are
 * detected (`WEBHOOK_LOOP`).
 *
 * The guard itself answers a verified challenge, by which a sender asks whether webhooks are welcome (`handshake: 'challenge'`). The
 * handler is not called for it.
 *
 * The bootstrap stops with `UNKNOWN_SOURCE` if the module does not have the source, and with `RECEIVER_MODULE_MISSING` without the
 * module. Global guards run first: exempt the route from guards that need a login.
 *
 * @example
 * \@Post('hooks/billing')
 * \@HttpCode(204)
 * \@VerifyIncomingWebhook('billing')
 * async receive(@IncomingWebhookParam() webhook: IncomingWebhookMessage<Invoice>): Promise<void> {}
 */
export function VerifyIncomingWebhook(source: string): ClassDecorator & MethodDecorator {
  // A separate class for each use: Nest creates its instance during the bootstrap, which checks the source name.
  @Injectable()
  class VerifyIncomingWebhookGuard implements CanActivate {
    constructor(@Optional() @Inject(VERIFIER) private readonly verifier: IncomingWebhookVerifier | undefined) {
      if (!verifier) {
        throw new ConfigurationError(
          'RECEIVER_MODULE_MISSING',
          `@VerifyIncomingWebhook('${source}') needs the IncomingWebhooksModule. Add IncomingWebhooksModule.forRoot({ sources: { ${source}: { secrets: […] } } }) to the imports of your root module.`,
        );
      }
      verifier.assertSource(source);
    }

    async canActivate(context: ExecutionContext): Promise<boolean> {
      const request = context.switchToHttp().getRequest<ReceivedRequest & WithWebhook>();
      const webhook = await (this.verifier as IncomingWebhookVerifier).receive(source, request);
      const challenge = challengeOf(webhook);
      // An exception skips the application's handlers, pipes and interceptors, so they cannot change the answer or its status.
      if (challenge !== null) throw new HttpException({ challenge }, HttpStatus.OK);
      request[WEBHOOK] = webhook;
      return true;
    }
  }
  return applyDecorators(UseGuards(VerifyIncomingWebhookGuard), UseInterceptors(CausedByWebhook));
}

/** Marks the handler's writes as caused by the webhook, so that a loop is detected: see `withIncomingWebhook`. */
class CausedByWebhook implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
    const depth = webhook ? depthOf(webhook.headers) : 0;
    return new Observable((subscriber) => withIncomingWebhook({ depth }, () => next.handle().subscribe(subscriber)));
  }
}
