import { BadRequestError } from './errors.js';

/**
 * No listener has this id, or the listener belongs to another owner. Both cases have the same error. So an owner cannot find out whether a
 * listener of another owner exists.
 */
export class ListenerNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('LISTENER_NOT_FOUND', `There is no listener '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/** The revision of a listener is not the one that the caller has read, so the change would overwrite another one. */
export function listenerChanged(revision: number, expected: number): InvalidListenerError {
  return new InvalidListenerError(
    'LISTENER_CHANGED',
    `The listener was changed in the meantime: its revision is ${revision}, not ${expected}. Read it again.`,
    { httpStatus: 412, details: { revision } },
  );
}

/** The message of `LISTENER_PENDING`. */
export const LISTENER_PENDING_MESSAGE = 'The listener has not passed its handshake yet.';
/** The message of `LISTENER_DISABLED`. */
export const LISTENER_DISABLED_MESSAGE = 'The listener is disabled. Enable it first.';

/** The input for a listener is not valid, or the state of the listener does not allow the call. `details` may name the property. */
export class InvalidListenerError extends BadRequestError {}
