import { WebhooksError } from '../errors.js';

/**
 * A change could not become an event: the user's write fails with it, and its transaction rolls back.
 *
 * Going on would lose the event or leak it to the wrong owner. Codes: `OWNER_FAILED`, `WHEN_FAILED` (the function threw,
 * see `cause`), `INVALID_OWNER` (what came out is nobody's id), `UNSERIALIZABLE_FIELD`.
 */
export class CaptureError extends WebhooksError {}
