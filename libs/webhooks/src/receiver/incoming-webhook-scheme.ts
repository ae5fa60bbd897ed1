import { createHash } from 'node:crypto';

/** The parts of a request that a scheme verifies. */
export interface IncomingWebhookRequest {
  /** Names are in lower case. A header that arrived twice is `undefined`. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The body, byte for byte. */
  readonly body: Buffer;
  /** The sender may have signed with any of these secrets. Empty only if {@link IncomingWebhookScheme.hasSecrets} is `false`. */
  readonly secrets: readonly string[];
  /** Unix seconds. */
  readonly nowSeconds: number;
  /** The largest allowed difference between a signed timestamp and now, in both directions. */
  readonly toleranceSeconds: number;
}

/** The values that a signature proves, beside the body. */
export interface IncomingWebhookProof {
  /**
   * The deduplication key: the same when the sender repeats the event. The signature must cover it. Otherwise an attacker who
   * recorded one request could change the id and send the request again as a new event. If the sender signs no id, use {@link bodyId}.
   */
  readonly id: string;
  /** When the request was signed, in Unix seconds; `null` if the signature does not cover a time. */
  readonly timestamp: number | null;
}

/**
 * Verifies the signatures of one kind of sender. Extend this class if none of `standard`, `stripe`, `github` and
 * `google-code` fits your sender, and set it as the `scheme` of a source. Compare signatures with `timingSafeEqual`.
 */
export abstract class IncomingWebhookScheme {
  /** The name in error messages. */
  abstract readonly name: string;

  /** `false` if the scheme uses no secrets, because it asks the sender, for example. @defaultValue true */
  readonly hasSecrets?: boolean;

  /**
   * Checks the signature first, and the timestamp only if the signature is genuine.
   *
   * @throws IncomingWebhookError when the request is not genuine, or not recent
   * @throws ConfigurationError when this scheme cannot use a secret. To find such secrets, the module calls `verify()` once
   * for each source at startup, with an unsigned request
   */
  abstract verify(request: IncomingWebhookRequest): IncomingWebhookProof | Promise<IncomingWebhookProof>;
}

/**
 * The id for a scheme that signs no id: `sha256:` and the hash of the body, because the body is signed. Two events with the
 * same bytes count as one.
 */
export function bodyId(body: Buffer): string {
  return `sha256:${createHash('sha256').update(body).digest('base64url')}`;
}
