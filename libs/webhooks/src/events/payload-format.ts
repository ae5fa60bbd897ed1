import type { JsonObject } from '../json.js';

/**
 * Turns an event's canonical text into the bytes that a listener gets: a replaceable part. A listener names its format.
 *
 * Runs when the delivery is made, and its text is stored with it, so every retry sends the same bytes. It sees the
 * canonical text, the context and nothing else: no database read, no clock. What it throws discards that one delivery, with an error
 * in the log.
 *
 * @example
 * class SlackFormat extends PayloadFormat {
 *   readonly name = 'slack';
 *   readonly contentType = 'application/json';
 *   render({ type }) { return JSON.stringify({ text: `something happened: ${type}` }); }
 * }
 */
export abstract class PayloadFormat {
  /** What listeners call it. Stored with them, so never rename one that is in use. */
  abstract readonly name: string;
  /** Value of the `content-type` header. */
  abstract readonly contentType: string;
  /**
   * `payload` is the canonical text: JSON of `{ type, timestamp, data, previous? }`. `context` is what the application said of
   * who made it, which receivers see only if a format shows it.
   */
  abstract render(event: { id: string; type: string; payload: string; context: JsonObject | null }): string;
  /**
   * Headers beside the content type. Made for each attempt, of the event alone, so that every attempt has the same; no scheme
   * signs them.
   */
  headersOf?(event: { id: string; type: string; createdAt: number }): Readonly<Record<string, string>>;
}

/** The format that sends an event's stored text, byte for byte. */
export const STANDARD_FORMAT = 'standard';
export const JSON_CONTENT_TYPE = 'application/json';
