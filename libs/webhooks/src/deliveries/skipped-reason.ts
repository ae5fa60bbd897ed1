/** Every {@link SkippedReason}. Of several that apply, the first is given. */
export const SKIPPED_REASONS = [
  'TEST_EVENT',
  'OTHER_OWNER',
  'LISTENER_DAMAGED',
  'TYPE_NOT_SUBSCRIBED',
  'CONTENT_ERASED',
  'EVENT_DAMAGED',
  'FILTER_NOT_MATCHED',
  'CREATED_LATER',
  'NOT_ROUTED',
  'MATCHES_NOW',
] as const;

/**
 * Why a listener has no delivery of an event. A disabled or pending listener is no reason: its deliveries are held.
 *
 * - `TEST_EVENT`: the event is the test of one listener
 * - `OTHER_OWNER`: the event is not for the owner of the listener
 * - `TYPE_NOT_SUBSCRIBED`: the listener does not receive this event type
 * - `CONTENT_ERASED`, `EVENT_DAMAGED`, `LISTENER_DAMAGED`: the filter can no longer be tried
 * - `FILTER_NOT_MATCHED`: `failedOn` names the conditions of the filter that do not hold
 * - `CREATED_LATER`: the listener matches, and was created after the event
 * - `NOT_ROUTED`: the listener matches, and gets a delivery in a moment
 * - `MATCHES_NOW`: the listener matches. Its settings were changed after the event, or its delivery was deleted
 */
export type SkippedReason = (typeof SKIPPED_REASONS)[number];
