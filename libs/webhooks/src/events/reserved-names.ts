/** Says how many events in a row led to this one, when it is more than none. Not signed, so believed of a genuine webhook only. */
export const DEPTH_HEADER = 'webhook-depth';

/** The type of the request that asks a receiver for its consent, before the first delivery. */
export const CHALLENGE_TYPE = 'webhook.challenge';
