import { type ArgumentsHost, Catch, HttpException } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { BadRequestError } from 'nestjs-entity-webhooks';

/**
 * Answers a customer's mistake with its status, code and message. Copy this filter: without it these errors are answered with 500.
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
