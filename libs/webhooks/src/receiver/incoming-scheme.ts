import { createHash } from 'node:crypto';

/** A request, as a scheme sees it. */
export interface IncomingRequest {
  /** Names in lower case; a header that came twice is missing. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The body byte for byte. */
  readonly body: Buffer;
  /** Any of them may have signed. Never empty, unless the scheme takes none. */
  readonly secrets: readonly string[];
  /** Unix seconds. */
  readonly nowSeconds: number;
  /** How far a signed timestamp may be from now, either way. */
  readonly toleranceSeconds: number;
}

/** What a signature vouches for, beside the body. */
export interface IncomingProof {
  /**
   * By what the same event is known when it comes again. It must be covered by the signature: an id that anybody can change
   * lets anybody who recorded one request send it again as a new one. Without such an id: {@link bodyId}.
   */
  readonly id: string;
  /** When the request was signed, in Unix seconds; `null` where the signature does not cover a time. */
  readonly timestamp: number | null;
}

/**
 * How one kind of sender signs, seen from the other end. Extend it for a sender that none of `standard`, `stripe`,
 * `github` and `google-code` fits, compare signatures with `timingSafeEqual`, and give it as `scheme` of a source.
 */
export abstract class IncomingScheme {
  /** For messages. */
  abstract readonly name: string;

  /** `false`: it asks somebody else, and takes no secrets. @defaultValue true */
  readonly hasSecrets?: boolean;

  /**
   * Looks at the signature first, and at the time of what is genuine afterwards.
   *
   * @throws WebhookVerificationError when it is not genuine, or not recent
   * @throws ConfigurationError when a secret is none of this scheme. The module asks once while the application starts, with
   * a request that nobody signed
   */
  abstract verify(request: IncomingRequest): IncomingProof | Promise<IncomingProof>;
}

/**
 * An id for a scheme that signs none: `sha256:` and the hash of the body, which is what is signed. Two events with the same
 * bytes are one then.
 */
export function bodyId(body: Buffer): string {
  return `sha256:${createHash('sha256').update(body).digest('base64url')}`;
}
