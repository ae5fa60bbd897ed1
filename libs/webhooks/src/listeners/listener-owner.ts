import { hintForApplication } from '../errors.js';
import { InvalidListenerError } from '../listener-errors.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { CreateListenerInput } from './listener.js';

/** The error of a call that names another owner, or that an owner-bound service does not allow. */
export function otherOwner(): InvalidListenerError {
  return new InvalidListenerError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
}

/** @throws InvalidListenerError `INVALID_OWNER` */
export function assertOwner(owner: unknown): string {
  const text = ownerText(owner);
  if (text === undefined) {
    throw new InvalidListenerError(
      'INVALID_OWNER',
      INVALID_OWNER_MESSAGE,
      hintForApplication('INVALID_OWNER', 'To create a listener of the application itself, leave `owner` out.'),
    );
  }
  return text;
}

/**
 * The owner of a new listener, or of a search.
 *
 * @param boundTo the owner to which the service is bound
 * @throws InvalidListenerError `INVALID_OWNER`
 */
export function ownerOf(given: CreateListenerInput['owner'], boundTo: OwnerScope): string | null {
  const owner = given === undefined || given === null ? null : assertOwner(given);
  if (boundTo === undefined) return owner;
  if (owner !== null && owner !== boundTo) throw otherOwner();
  return boundTo;
}
