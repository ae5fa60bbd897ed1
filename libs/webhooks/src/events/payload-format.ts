import type { JsonObject } from '../json.js';

/**
 * Turns an event's canonical text into the body that a listener receives. Formats are replaceable parts. Each listener
 * sets the name of its format.
 *
 * A format runs once, when a delivery is created. The delivery stores the text, so every retry sends the same bytes. Use only the
 * given event: read no database and no clock. If a format throws an error, only that delivery is discarded, and the error is
 * logged.
 *
 * @example
 * class SlackFormat extends PayloadFormat {
 *   readonly name = 'slack';
 *   readonly contentType = 'application/json';
 *   render({ type }) { return JSON.stringify({ text: `something happened: ${type}` }); }
 * }
 */
export abstract class PayloadFormat {
  /** The name that listeners set. Listeners store it, so do not rename a format that is in use. */
  abstract readonly name: string;
  /** Value of the `content-type` header. */
  abstract readonly contentType: string;
  /**
   * Returns the body. `payload` is the canonical text: JSON of `{ type, timestamp, data, previous? }`. `context` is the value that
   * the application set with `withContext()`. Receivers see the context only if the format includes it.
   */
  abstract render(event: { id: string; type: string; payload: string; context: JsonObject | null }): string;
  /**
   * Returns headers in addition to the content type. This method runs for each attempt. Use only the given event: then all
   * attempts have the same headers. No scheme signs these headers. `version` is the version of the payload.
   */
  headersOf?(event: { id: string; type: string; createdAt: number; version: number }): Readonly<Record<string, string>>;
}

/** The format that sends the stored text of an event, byte for byte. */
export const STANDARD_FORMAT = 'standard';
export const JSON_CONTENT_TYPE = 'application/json';
