/**
 * The header with the number of events that caused this one, one after the other; absent when there are none. No scheme signs it:
 * read it only from a verified webhook.
 */
export const DEPTH_HEADER = 'webhook-depth';

/** The type of the handshake request, which asks for a receiver's consent before the first delivery. */
export const CHALLENGE_TYPE = 'webhook.challenge';
