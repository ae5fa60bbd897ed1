import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { BadRequestError } from './errors.js';

/**
 * Answers an HTTP request with the status of a {@link BadRequestError} and with its `code` and `message`, which customers may see. Without
 * this filter Nest answers 500. It works on Express and Fastify, and does not handle other errors.
 *
 * @example
 * @Controller('webhook-endpoints')
 * @UseFilters(WebhooksExceptionFilter)
 * export class WebhookEndpointsController {}
 */
@Catch(BadRequestError)
export class WebhooksExceptionFilter implements ExceptionFilter<BadRequestError> {
  constructor(private readonly host: HttpAdapterHost) {}

  catch({ code, message, httpStatus }: BadRequestError, host: ArgumentsHost): void {
    const { httpAdapter } = this.host;
    const body = { statusCode: httpStatus, code, message };
    httpAdapter.reply(host.switchToHttp().getResponse(), body, httpStatus);
  }
}
