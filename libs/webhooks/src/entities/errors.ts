import { WebhooksError } from '../errors.js';

/**
 * A change could not become an event: the user's write fails with it, and its transaction rolls back.
 *
 * Going on would lose the event or leak it to the wrong owner. Codes: `OWNER_FAILED`, `WHEN_FAILED` (the function threw,
 * see `cause`), `INVALID_OWNER` (what came out is nobody's id), `UNSERIALIZABLE_FIELD`,
 * `WEBHOOK_LOOP` (handlers of events and receivers cause each other without end).
 */
export class CaptureError extends WebhooksError {}

/** What `WEBHOOK_LOOP` says, of a write or of `publish()`. @internal */
export function loopMessage(what: string, depth: number, maxDepth: number): string {
  return `${what} was made while handling an event that ${depth - 1} others led to, one after the other, and \`maxDepth\` is ${maxDepth}: handlers of events, or receivers of webhooks in this application, write what calls them again. Let the handler see that there is nothing to do, write inside webhooks.withoutCapture(), or raise \`maxDepth\`.`;
}
