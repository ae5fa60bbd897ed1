import { Catch, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { BadRequestError } from './errors.js';

/**
 * Answers an HTTP request with the status, the `code` and the `message` of a {@link BadRequestError}. Customers may see all three. Without
 * this filter, Nest answers 500. The filter works on Express and Fastify. It does not handle other errors.
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
