import { BadRequestError, type WebhooksErrorOptions } from '../errors.js';

/** The delivery does not exist, or belongs to another owner. The error is the same in both cases. */
export class DeliveryNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('DELIVERY_NOT_FOUND', `There is no delivery '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/**
 * The delivery cannot be sent again now. The code says why. The delivery is being sent (`DELIVERY_IN_FLIGHT`), the listener
 * receives nothing (`LISTENER_DISABLED`, `LISTENER_PENDING`, `LISTENER_REMOVED`), or the payload format or a function of `versions` threw an
 * error (`FORMAT_FAILED`, `VERSION_FAILED`, see `cause`). An event cannot be sent to a listener that does not want it (`EVENT_NOT_WANTED`), has a delivery of it
 * (`DELIVERY_EXISTS`), or will get one (`EVENT_NOT_ROUTED`). A damaged event cannot be sent (`EVENT_DAMAGED`).
 */
export class ResendError extends BadRequestError {
  constructor(
    code:
      | ('DELIVERY_IN_FLIGHT' | 'LISTENER_DISABLED' | 'LISTENER_PENDING' | 'LISTENER_REMOVED')
      | ('FORMAT_FAILED' | 'VERSION_FAILED')
      | ('DELIVERY_FINISHED' | 'EVENT_NOT_WANTED' | 'DELIVERY_EXISTS' | 'EVENT_NOT_ROUTED' | 'EVENT_DAMAGED'),
    message: string,
    options: Pick<WebhooksErrorOptions, 'cause' | 'details'> = {},
  ) {
    super(code, message, { ...options, httpStatus: 409 });
  }
}

/** The event does not exist, or is not for this owner. The error is the same in both cases. */
export class EventNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('EVENT_NOT_FOUND', `There is no event '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/** The content of the event was erased. So it can no longer be sent or shown. */
export class ContentErasedError extends BadRequestError {
  constructor(erasedAt: Date) {
    super('CONTENT_ERASED', `The content of this event was erased at ${erasedAt.toISOString()}.`, { httpStatus: 410 });
  }
}

/** The task does not exist, or belongs to another owner. The error is the same in both cases. */
export class TaskNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('TASK_NOT_FOUND', `There is no task '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/** @param action the refused action; completes "cannot …" */
export function notForOwners(action: string): BadRequestError {
  return new BadRequestError('NOT_FOR_OWNERS', `A service that is bound to an owner cannot ${action}.`, {
    httpStatus: 403,
  });
}
