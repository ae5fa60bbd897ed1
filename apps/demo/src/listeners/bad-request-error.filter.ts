import { type ArgumentsHost, Catch, HttpException } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { BadRequestError } from 'nestjs-entity-webhooks';

/**
 * Answers a mistake of a customer with the status, the code and the message of the error. Copy this filter into your application.
 * Without this filter, such an error is answered with 500.
 *
 * @example { "statusCode": 400, "code": "UNKNOWN_EVENT_TYPE", "message": "…" }
 */
@Catch(BadRequestError)
export class BadRequestErrorFilter extends BaseExceptionFilter {
  override catch(error: BadRequestError, host: ArgumentsHost): void {
    const { httpStatus: statusCode, code, message } = error;
    super.catch(new HttpException({ statusCode, code, message }, statusCode), host);
  }
}
