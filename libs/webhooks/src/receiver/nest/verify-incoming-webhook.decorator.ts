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
import { Observable, tap } from 'rxjs';
import { ConfigurationError } from '../../errors.js';
import type { ReceivedRequest } from '../../raw-body/raw-body.js';
import { challengeOf } from '../challenge.js';
import { depthOf, withIncomingWebhook } from '../incoming-webhook.js';
import { publishProcessing, type IncomingWebhookProcessing } from '../incoming-webhook-channel.js';
import { WEBHOOK, type WithWebhook } from './incoming-webhook-param.decorator.js';
import type { IncomingWebhookVerifier } from './incoming-webhook-verifier.js';

/** @internal */
export const VERIFIER = Symbol('nestjs-entity-webhooks:webhook-verifier');

/**
 * Guards a handler, or all handlers of a controller. Only verified webhooks of a source pass. Every other request is answered with a
 * plain 401. The handler gets the webhook with `@IncomingWebhookParam()`. The writes of the handler count as caused by the webhook. So
 * loops are detected (`WEBHOOK_LOOP`).
 *
 * With a challenge, a sender asks for permission to send webhooks (`handshake: 'challenge'`). The guard itself answers a verified
 * challenge. The handler is not called for a challenge.
 *
 * If the module does not have the source, the bootstrap stops with `UNKNOWN_SOURCE`. If the module is missing, the bootstrap stops
 * with `RECEIVER_MODULE_MISSING`. Global guards run first, so exempt the route from guards that need a login.
 *
 * @example
 * \@Post('hooks/billing')
 * \@HttpCode(204)
 * \@VerifyIncomingWebhook('billing')
 * async receive(@IncomingWebhookParam() webhook: IncomingWebhookMessage<Invoice>): Promise<void> {}
 */
export function VerifyIncomingWebhook(source: string): ClassDecorator & MethodDecorator {
  // Each use of the decorator has a separate class. Nest creates an instance of this class during the bootstrap,
  // and the constructor checks the name of the source.
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
      // An exception skips the application's handlers, pipes and interceptors. So they cannot change the answer or its status.
      if (challenge !== null) throw new HttpException({ challenge }, HttpStatus.OK);
      request[WEBHOOK] = webhook;
      return true;
    }
  }
  return applyDecorators(UseGuards(VerifyIncomingWebhookGuard), UseInterceptors(CausedByWebhook));
}

/** Marks the writes of the handler as caused by the webhook. With this mark, a loop is detected: see `withIncomingWebhook`. */
class CausedByWebhook implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const webhook = context.switchToHttp().getRequest<WithWebhook>()[WEBHOOK];
    const depth = webhook ? depthOf(webhook.headers) : 0;
    const message = webhook && publishProcessing(webhook);
    const handled = new Observable((subscriber) =>
      withIncomingWebhook({ depth }, () => next.handle().subscribe(subscriber)),
    );
    return message ? processed(handled, message) : handled;
  }
}

function processed(handled: Observable<unknown>, message: IncomingWebhookProcessing): Observable<unknown> {
  const ended = handled.pipe(tap({ error: (error) => message.ended(error), complete: () => message.ended() }));
  return new Observable((subscriber) => message.run(() => ended.subscribe(subscriber)));
}
