import { createHash } from 'node:crypto';

/** The parts of a request that a scheme verifies. */
export interface IncomingWebhookRequest {
  /** The headers of the request, with names in lower case. A header that occurs twice is `undefined`. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The body, byte for byte. */
  readonly body: Buffer;
  /** The sender may have signed with any of these secrets. Empty only if {@link IncomingWebhookScheme.hasSecrets} is `false`. */
  readonly secrets: readonly string[];
  /** The current time, in Unix seconds. */
  readonly nowSeconds: number;
  /** The largest allowed difference between a signed timestamp and now, in both directions. */
  readonly toleranceSeconds: number;
}

/** The signed values of a request, in addition to its body. */
export interface IncomingWebhookProof {
  /**
   * The deduplication key. The sender must use the same key when it repeats the event. The signature must cover the key. Otherwise an
   * attacker who recorded one request could change the key and send the request again as a new event. If the sender signs no id, use
   * {@link bodyId}.
   */
  readonly id: string;
  /** When the request was signed, in Unix seconds; `null` if the signature does not cover a time. */
  readonly timestamp: number | null;
}

/**
 * Verifies the signatures of one kind of sender. If none of `standard`, `stripe`, `github` and `google-code` fits
 * your sender, extend this class, and set your scheme as the `scheme` of a source. Compare signatures with
 * `timingSafeEqual`.
 */
export abstract class IncomingWebhookScheme {
  /** The name in error messages. */
  abstract readonly name: string;

  /** Whether the scheme uses secrets. A scheme that asks the sender, for example, uses no secrets. @defaultValue true */
  readonly hasSecrets?: boolean;

  /**
   * Checks the signature first, and the timestamp only if the signature is genuine.
   *
   * @throws IncomingWebhookError when the request is not genuine, or not recent
   * @throws ConfigurationError when this scheme cannot use one of the secrets. To find such secrets, the module calls
   * `verify()` once for each source at startup, with an unsigned request
   */
  abstract verify(request: IncomingWebhookRequest): IncomingWebhookProof | Promise<IncomingWebhookProof>;
}

/**
 * Returns an id for a scheme that signs no id: `sha256:` and the hash of the body. The hash is safe as an id, because the
 * body is signed. Two events with the same bytes count as one event.
 */
export function bodyId(body: Buffer): string {
  return `sha256:${createHash('sha256').update(body).digest('base64url')}`;
}
