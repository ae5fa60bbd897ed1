import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from 'node:crypto';
import { ConfigurationError } from '../errors.js';

/** A key for sealing secrets. The bytes are in a `KeyObject`, which no `inspect` and no logger prints. */
export interface SealingKey {
  /** The id of the key. The id is stored with each sealed text, and identifies the key that sealed the text. */
  readonly id: string;
  /** The key, 32 bytes. */
  readonly key: KeyObject;
}

/** The use of a sealed text. A text that is sealed for one use does not open for another use. */
export type SealedUse = 'secret' | 'auth' | 'tls';

/**
 * A sealed text in the tables cannot be read with the keys of this application. No data is lost: pending deliveries of
 * the listener stay pending.
 *
 * - `SECRET_KEY_MISSING`: the id of the key is not in `secrets.keys`.
 * - `SECRET_UNREADABLE`: `secrets.keys` has a different key with this id, or the row was changed or copied from another
 *   listener.
 * - `SECRET_NOT_SEALED`: the text is not sealed, but `secrets.requireSealed` is on.
 */
export class UnreadableSecretError extends ConfigurationError {}

const ALGORITHM = 'aes-256-gcm';
const PREFIX = 'sealed:';
const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Maximum number of opened texts in the cache. This is enough for the listeners that are busy at the same time. */
const MAX_OPENED = 10_000;
/** Longer texts, such as certificates, are not cached. 10,000 such texts would take half a gigabyte. */
const MAX_KEPT_LENGTH = 10 * 1024;

/**
 * Seals secrets for the tables with AES-256-GCM and a random nonce. The associated data contains the use of the text and the id of the
 * listener. So a sealed secret does not open in another row. For credentials, the associated data also contains the origin of the
 * listener's URL. So if an attacker changes the URL in the row, the credentials are not sent to the new URL.
 *
 * The first key seals new texts. Every key can open the texts that it sealed. Without keys, texts are stored
 * unencrypted. With `requireSealed`, an unsealed text is refused.
 */
export class Sealing {
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #first: SealingKey | undefined;
  readonly #opened = new Map<string, string>();

  /**
   * @param requireSealed whether unsealed texts are refused. If they are accepted, an attacker who can write to the tables
   * can store a known secret
   */
  constructor(
    keys: readonly SealingKey[],
    readonly requireSealed = false,
  ) {
    this.#keys = new Map(keys.map(({ id, key }) => [id, key]));
    this.#first = keys[0];
  }

  get isOn(): boolean {
    return this.#first !== undefined;
  }

  /**
   * Returns `sealed:<key id>:<base64url of version, nonce, text and tag>`, or the text unchanged when there is no key.
   */
  seal(text: string, use: SealedUse, listenerId: string, origin = ''): string {
    if (this.#first === undefined) return text;
    const { id, key } = this.#first;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(associatedData(id, { use, listenerId, origin }));
    const box = Buffer.concat([
      Buffer.from([VERSION]),
      nonce,
      cipher.update(text, 'utf8'),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    return `${PREFIX}${id}:${box.toString('base64url')}`;
  }

  /**
   * Returns the text that was given to {@link seal}. A text that was stored without a key is returned unchanged.
   *
   * @throws UnreadableSecretError
   */
  open(stored: string, use: SealedUse, listenerId: string, origin = ''): string {
    const sealed = parse(stored);
    if (sealed === null) return this.plain(stored, listenerId);
    const name = JSON.stringify([use, listenerId, origin, stored]);
    const known = this.#opened.get(name);
    if (known !== undefined) return known;
    const key = this.#keys.get(sealed.keyId);
    if (key === undefined) {
      throw new UnreadableSecretError(
        'SECRET_KEY_MISSING',
        `A secret of listener ${listenerId} is sealed with the key '${sealed.keyId}', which is not in secrets.keys. Add this key after the first key.`,
        { details: { listenerId, keyId: sealed.keyId } },
      );
    }
    const text = decrypt(sealed.box, key, associatedData(sealed.keyId, { use, listenerId, origin }));
    if (text === null) {
      throw new UnreadableSecretError(
        'SECRET_UNREADABLE',
        `A secret of listener ${listenerId} does not open with the key '${sealed.keyId}' of secrets.keys. Either a different key had this id when the secret was sealed, or the row or its URL was changed. Restore the key or the row, or rotate the secret with overlapMs: 0.`,
        { details: { listenerId, keyId: sealed.keyId } },
      );
    }
    if (stored.length > MAX_KEPT_LENGTH) return text;
    if (this.#opened.size >= MAX_OPENED) this.#opened.clear();
    this.#opened.set(name, text);
    return text;
  }

  /** Whether the text is not sealed, or not sealed with the first key. */
  isOutdated(stored: string): boolean {
    return this.#first !== undefined && parse(stored)?.keyId !== this.#first.id;
  }

  /**
   * Seals a text with the first key. A text that is already sealed with this key is returned unchanged. @throws
   * UnreadableSecretError
   */
  reseal(stored: string, use: SealedUse, listenerId: string, origin = ''): string {
    if (!this.isOutdated(stored)) return stored;
    return this.seal(this.open(stored, use, listenerId, origin), use, listenerId, origin);
  }

  private plain(stored: string, listenerId: string): string {
    if (!this.requireSealed) return stored;
    throw new UnreadableSecretError(
      'SECRET_NOT_SEALED',
      `A secret of listener ${listenerId} is not sealed, but secrets.requireSealed is on. Turn requireSealed off and run resealSecrets(), or find out who wrote the secret.`,
      { details: { listenerId } },
    );
  }
}

interface BoundTo {
  readonly use: SealedUse;
  readonly listenerId: string;
  /** The origin of the listener's URL for credentials; `''` for secrets. */
  readonly origin: string;
}

function associatedData(keyId: string, { use, listenerId, origin }: BoundTo): Buffer {
  return Buffer.from(JSON.stringify(['nestjs-entity-webhooks', VERSION, keyId, use, listenerId, origin]));
}

/** The id of the key that sealed a text; `null` if the text is not sealed. */
export function sealingKeyOf(stored: string): string | null {
  return parse(stored)?.keyId ?? null;
}

/** Returns `null` for a text that is not sealed. No secret, key or JSON starts with the prefix. */
function parse(stored: string): { keyId: string; box: Buffer } | null {
  if (!stored.startsWith(PREFIX)) return null;
  const [keyId = '', box = ''] = stored.slice(PREFIX.length).split(':');
  return { keyId, box: Buffer.from(box, 'base64url') };
}

function decrypt(box: Buffer, key: KeyObject, aad: Buffer): string | null {
  if (box[0] !== VERSION || box.length < 1 + NONCE_BYTES + TAG_BYTES) return null;
  const nonce = box.subarray(1, 1 + NONCE_BYTES);
  try {
    const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad);
    decipher.setAuthTag(box.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(box.subarray(1 + NONCE_BYTES, -TAG_BYTES)), decipher.final()]).toString(
      'utf8',
    );
  } catch {
    return null; // the cipher cannot distinguish a wrong key from a changed row
  }
}
