import { BadRequestError, type WebhooksErrorOptions } from '../errors.js';

/** No such delivery, or another owner's: the two are not told apart. */
export class DeliveryNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('DELIVERY_NOT_FOUND', `There is no delivery '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/**
 * It cannot be sent again now: it is being sent (`DELIVERY_IN_FLIGHT`), or nobody would get it (`LISTENER_DISABLED`,
 * `LISTENER_PENDING`, `LISTENER_REMOVED`), or its format fails (`FORMAT_FAILED`, with what it threw as `cause`).
 */
export class ResendError extends BadRequestError {
  constructor(
    code: 'DELIVERY_IN_FLIGHT' | 'LISTENER_DISABLED' | 'LISTENER_PENDING' | 'LISTENER_REMOVED' | 'FORMAT_FAILED',
    message: string,
    options: Pick<WebhooksErrorOptions, 'cause'> = {},
  ) {
    super(code, message, { ...options, httpStatus: 409 });
  }
}
