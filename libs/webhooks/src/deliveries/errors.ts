import { BadRequestError, type WebhooksErrorOptions } from '../errors.js';

/** The delivery does not exist, or belongs to another owner. The error is the same in both cases. */
export class DeliveryNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('DELIVERY_NOT_FOUND', `There is no delivery '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/**
 * The delivery cannot be sent again now. It is being sent (`DELIVERY_IN_FLIGHT`), its listener receives nothing
 * (`LISTENER_DISABLED`, `LISTENER_PENDING`, `LISTENER_REMOVED`), or its payload format threw (`FORMAT_FAILED`, see `cause`).
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
