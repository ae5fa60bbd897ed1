import { WebhooksError } from '../errors.js';

/**
 * A change could not become an event. The write fails with this error, and its transaction is rolled back. Otherwise the
 * event would be lost, or sent to the wrong owner.
 *
 * Codes: `OWNER_FAILED`, `WHEN_FAILED` (the function threw, see `cause`), `INVALID_OWNER` (the value cannot be an owner),
 * `UNSERIALIZABLE_FIELD` (the value has no JSON form), `WEBHOOK_LOOP` (event handlers or receivers trigger each other
 * without end).
 */
export class CaptureError extends WebhooksError {}

/** The message of `WEBHOOK_LOOP`. @param what `A write of Order` or `publish('type')` @internal */
export function loopMessage(what: string, depth: number, maxCausationDepth: number): string {
  return `${what} follows from a chain of ${depth} events, and \`maxCausationDepth\` allows ${maxCausationDepth}. An event handler, or a webhook receiver in this application, makes a change that calls the handler again. Make no change when nothing is left to do, write inside webhooks.withoutCapture(), or raise \`maxCausationDepth\`.`;
}
