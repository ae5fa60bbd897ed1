import { BadRequestError } from './errors.js';

/** There is no such listener, or it belongs to another owner. The error is the same, so an owner cannot find out which. */
export class ListenerNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('LISTENER_NOT_FOUND', `There is no listener '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/** The message of `LISTENER_PENDING`. */
export const LISTENER_PENDING_MESSAGE = 'The listener has not passed its handshake yet.';
/** The message of `LISTENER_DISABLED`. */
export const LISTENER_DISABLED_MESSAGE = 'The listener is disabled. Enable it first.';

/** The input for a listener is not valid, or the state of the listener does not allow the call. `details` may name the property. */
export class InvalidListenerError extends BadRequestError {}
