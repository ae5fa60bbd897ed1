/** The input of a signature: the data that it covers, and the keys. */
export interface SigningInput {
  /** The public id of the event, sent as `webhook-id`. */
  id: string;
  /** Time of the attempt in Unix seconds, sent as `webhook-timestamp`. */
  timestamp: number;
  /** The exact bytes of the request body. */
  body: Buffer;
  /**
   * All keys that sign now, newest first. Their type is the {@link SignatureScheme.keyType} of the scheme. There are
   * several while the keys of a rotation overlap.
   */
  secrets: readonly string[];
}

/** Headers of a request, names in lower case. */
export type ReceivedHeaders = Readonly<Record<string, string | undefined>>;

/** A received request, and the id and timestamp that it claims. */
export interface VerifyInput extends SigningInput {
  headers: ReceivedHeaders;
}

/**
 * Signs webhooks and verifies them: bytes in, headers out.
 *
 * A listener names the schemes that it wants by `name`. To write a scheme, extend this class and register it in
 * `parts.signatureSchemes`. `sign` runs once for each attempt, so it should take only a few microseconds.
 */
export abstract class SignatureScheme {
  /** The name in the `schemes` of a listener. It is stored with listeners, so never rename a scheme that is in use. */
  abstract readonly name: string;

  /**
   * Which keys of a listener sign: its secrets (`whsec_…`) or its Ed25519 private keys (`whsk_…`). A listener gets an
   * Ed25519 key when it first names a scheme of that type.
   *
   * @defaultValue 'secret'
   */
  readonly keyType?: KeyType;

  /**
   * Which secrets a listener may have. `'whsec'`: only secrets that start with `whsec_`, followed by base64. `'text'`: any
   * text, whose UTF-8 bytes are the key. If a listener has several schemes, the strictest form applies.
   *
   * @defaultValue 'text'
   */
  readonly secretForm?: 'whsec' | 'text';

  /**
   * Returns the headers that carry the signature. They do not include `webhook-id` and `webhook-timestamp`, which the
   * dispatcher sets for every scheme. When two schemes of a listener write the same header, their values are joined
   * with a space, as Standard Webhooks lists signatures.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when a stored secret does not fit this scheme
   */
  abstract sign(input: SigningInput): Record<string, string>;

  /**
   * Whether any of the secrets made the signature in the headers. It compares in constant time and checks only the
   * signature. The caller decides how old a timestamp may be.
   *
   * @throws {@link ConfigurationError} `INVALID_SECRET` when one of `secrets` does not fit this scheme. It never throws
   * because of the received request
   */
  abstract verify(input: VerifyInput): boolean;
}

/** Types of keys that a listener can have; see {@link SignatureScheme.keyType}. */
export type KeyType = 'secret' | 'ed25519';
