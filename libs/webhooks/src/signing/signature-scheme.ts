/** What a signature covers, and with which secrets. */
export interface SigningInput {
  /** The event's public id, sent as `webhook-id`. */
  id: string;
  /** Unix seconds of the attempt, sent as `webhook-timestamp`. */
  timestamp: number;
  /** The exact bytes of the request body. */
  body: Buffer;
  /** All keys of the scheme's {@link SignatureScheme.keyType} that sign now, newest first: more than one while a rotation overlaps. */
  secrets: readonly string[];
}

/** Headers of a request, names in lower case. */
export type ReceivedHeaders = Readonly<Record<string, string | undefined>>;

/** What arrived, and what it claims. */
export interface VerifyInput extends SigningInput {
  headers: ReceivedHeaders;
}

/**
 * A way to sign a webhook: bytes in, headers out.
 *
 * A listener names the schemes it wants by `name`. Write your own by extending this class and registering it in `parts.signatureSchemes`; `sign` runs once for each attempt, so keep it at a few microseconds.
 */
export abstract class SignatureScheme {
  /** What listeners call it. Stored with them, so never rename one that is in use. */
  abstract readonly name: string;

  /**
   * Which of a listener's keys sign: its secrets (`whsec_…`), or its Ed25519 private keys (`whsk_…`), of which a listener
   * gets one when it first names such a scheme.
   *
   * @defaultValue 'secret'
   */
  readonly keyType?: KeyType;

  /**
   * The secrets that a listener may have. `'whsec'`: only `whsec_` and base64. `'text'`: any text, whose UTF-8 bytes are the key. With several
   * schemes the strictest form counts.
   *
   * @defaultValue 'text'
   */
  readonly secretForm?: 'whsec' | 'text';

  /**
   * The headers that carry the signature. `webhook-id` and `webhook-timestamp` are not among them: the dispatcher sets
   * those for every scheme. When two schemes of a listener write the same header, their values are joined by a space, as
   * Standard Webhooks lists signatures.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when a stored secret is none of this scheme
   */
  abstract sign(input: SigningInput): Record<string, string>;

  /**
   * Whether any of the secrets made the signature in the headers. Compares in constant time, and looks at nothing but
   * the signature: how old a timestamp may be is the caller's question.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when one of `secrets` is none of this scheme, whatever arrived; for
   * what arrived it never throws
   */
  abstract verify(input: VerifyInput): boolean;
}

/** Kinds of keys that listeners own; see {@link SignatureScheme.keyType}. */
export type KeyType = 'secret' | 'ed25519';
