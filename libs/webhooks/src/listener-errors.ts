import { BadRequestError } from './errors.js';

/** No such listener, or another owner's: the two are not told apart. */
export class ListenerNotFoundError extends BadRequestError {
  constructor(id: string) {
    super('LISTENER_NOT_FOUND', `There is no listener '${id.slice(0, 64)}'.`, { httpStatus: 404 });
  }
}

/** What a listener was to be cannot be. `details` names the offending key. */
export class InvalidListenerError extends BadRequestError {}
