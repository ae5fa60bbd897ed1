import { type ArgumentsHost, Catch, HttpException } from '@nestjs/common';
import { BaseExceptionFilter } from '@nestjs/core';
import { BadRequestError } from 'nestjs-entity-webhooks';

/**
 * What a customer did wrong, as an answer with a code that programs can read. Copy it: without it these errors are 500s.
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
