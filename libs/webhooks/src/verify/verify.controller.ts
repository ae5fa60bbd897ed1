import { Controller, Header, HttpCode, Inject, Post, Req, VERSION_NEUTRAL, type Type } from '@nestjs/common';
import { rawBodyOf, type ReceivedRequest } from '../raw-body/raw-body.js';
import { SentWebhookVerifier } from './sent-webhook-verifier.js';

/** Creates a separate controller class for each `forRoot`, because Nest stores the path and the guards on the class. @internal */
export function verifyController(path: string, decorators: readonly ClassDecorator[]): Type {
  @Controller({ path, version: VERSION_NEUTRAL })
  class WebhooksVerifyController {
    constructor(@Inject(SentWebhookVerifier) private readonly verifier: SentWebhookVerifier) {}

    @Post()
    @HttpCode(200)
    @Header('Content-Type', 'text/plain; charset=utf-8')
    @Header('Cache-Control', 'no-store')
    async verify(@Req() request: ReceivedRequest): Promise<'VERIFIED' | 'INVALID'> {
      const body = await rawBodyOf(request, this.verifier.bodyLimitBytes, 'WebhooksVerifyModule');
      return (await this.verifier.verify({ headers: request.headers, body })) ? 'VERIFIED' : 'INVALID';
    }
  }
  for (const decorate of decorators) decorate(WebhooksVerifyController);
  return WebhooksVerifyController;
}
