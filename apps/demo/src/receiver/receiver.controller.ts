import { Controller, Headers, HttpCode, HttpException, Param, Post, type RawBodyRequest, Req } from '@nestjs/common';
import type { Request } from 'express';
import { ReceiverService } from './receiver.service.js';

@Controller('receiver')
export class ReceiverController {
  constructor(private readonly receiver: ReceiverService) {}

  /**
   * Receives a webhook. The signature covers the exact bytes of the body. `NestFactory.create(AppModule, { rawBody: true
   * })` keeps these bytes.
   */
  @Post(':endpoint')
  @HttpCode(200)
  receive(
    @Param('endpoint') endpoint: string,
    @Headers() headers: Record<string, string>,
    @Req() { rawBody = Buffer.alloc(0) }: RawBodyRequest<Request>,
  ): void {
    const { status, verdict } = this.receiver.receive(endpoint, rawBody, headers);
    if (status >= 400) throw new HttpException(verdict, status);
  }
}
