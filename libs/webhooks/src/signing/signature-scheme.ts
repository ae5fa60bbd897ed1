/** The input of a signature: the data that the signature covers, and the keys. */
export interface SigningInput {
  /** The public id of the event, sent as `webhook-id`. */
  id: string;
  /** Time of the attempt in Unix seconds, sent as `webhook-timestamp`. */
  timestamp: number;
  /** The exact bytes of the request body. */
  body: Buffer;
  /**
   * All keys that sign now, newest first. Their type is the {@link SignatureScheme.keyType} of the scheme. While the
   * keys of a rotation overlap, there are several keys.
   */
  secrets: readonly string[];
}

/** Headers of a request, names in lower case. */
export type ReceivedHeaders = Readonly<Record<string, string | undefined>>;

/** A received request, and the id and the timestamp in its headers. */
export interface VerifyInput extends SigningInput {
  headers: ReceivedHeaders;
}

/**
 * Signs and verifies webhooks. A scheme gets the bytes of a body, and returns headers.
 *
 * A listener chooses its schemes by their `name`. To write a scheme, extend this class and register it in
 * `parts.signatureSchemes`. `sign` runs once for each attempt, so it should take only a few microseconds.
 */
export abstract class SignatureScheme {
  /** The name in the `schemes` of a listener. The name is stored with listeners, so never rename a scheme that is in use. */
  abstract readonly name: string;

  /**
   * The kind of keys with which this scheme signs: the secrets of a listener (`whsec_…`) or its Ed25519 private keys (`whsk_…`). A listener
   * gets an Ed25519 key when it first names a scheme of that type.
   *
   * @defaultValue 'secret'
   */
  readonly keyType?: KeyType;

  /**
   * Which secrets a listener may have. `'whsec'`: only secrets that start with `whsec_`, followed by base64. `'text'`: any
   * text. The key is the UTF-8 bytes of the text. If a listener has several schemes, the strictest form applies.
   *
   * @defaultValue 'text'
   */
  readonly secretForm?: 'whsec' | 'text';

  /**
   * Returns the headers that contain the signature. Do not return `webhook-id` and `webhook-timestamp`: the
   * dispatcher sets these two headers for every scheme. If two schemes of a listener write the same header, their
   * values are joined with a space. Standard Webhooks separates signatures in the same way.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when a stored secret does not fit this scheme
   */
  abstract sign(input: SigningInput): Record<string, string>;

  /**
   * Whether one of the secrets made the signature in the headers. An implementation compares in constant time, and
   * checks only the signature. The caller decides how old a timestamp may be.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when one of `secrets` does not fit this scheme. An invalid
   * request never causes an error
   */
  abstract verify(input: VerifyInput): boolean;
}

/** Types of keys that a listener can have; see {@link SignatureScheme.keyType}. */
export type KeyType = 'secret' | 'ed25519';
