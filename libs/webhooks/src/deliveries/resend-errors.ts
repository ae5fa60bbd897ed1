import { LISTENER_DISABLED_MESSAGE, LISTENER_PENDING_MESSAGE } from '../listener-errors.js';
import type { ListenerRow } from '../store/listeners/listener-rows.js';
import type { Refusal } from '../store/queue/send-past-event.js';
import { ContentErasedError, ResendError } from './errors.js';

const REFUSALS: Readonly<Record<Exclude<Refusal['refused'], 'CONTENT_ERASED'>, string>> = {
  EVENT_NOT_WANTED: 'The event does not match the types, the filter or the owner of the listener.',
  EVENT_NOT_ROUTED: 'The event is not routed yet. The listener gets a delivery in a moment.',
  EVENT_DAMAGED: 'The event is damaged: it cannot be read.',
  DELIVERY_EXISTS: 'The listener has a delivery of this event. Resend that delivery.',
  FORMAT_FAILED: 'The payload format of the listener cannot render the event.',
  VERSION_FAILED: 'The event cannot be rendered in the version of the listener.',
};

/** The error of an event that cannot be sent to a listener. */
export function refusal({ refused, erasedAt, deliveryId, cause }: Refusal): Error {
  if (refused === 'CONTENT_ERASED') return new ContentErasedError(new Date(Number(erasedAt)));
  const details = deliveryId === undefined ? {} : { details: { deliveryId } };
  return new ResendError(refused, REFUSALS[refused], { ...details, ...(cause === undefined ? {} : { cause }) });
}

export function inFlightError(): ResendError {
  return new ResendError('DELIVERY_IN_FLIGHT', 'The delivery is being sent right now. Try again in a moment.');
}

/** @throws ContentErasedError */
export function assertNotErased(event: { readonly erasedAt: unknown } | undefined): void {
  if (event && event.erasedAt !== null) throw new ContentErasedError(new Date(Number(event.erasedAt)));
}

/** @throws ResendError `LISTENER_DISABLED`, `LISTENER_PENDING` */
export function assertReceives({ state }: ListenerRow): void {
  if (state === 'pending') throw new ResendError('LISTENER_PENDING', LISTENER_PENDING_MESSAGE);
  if (state !== 'active') throw new ResendError('LISTENER_DISABLED', LISTENER_DISABLED_MESSAGE);
}
