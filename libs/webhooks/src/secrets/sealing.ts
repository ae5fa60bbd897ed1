import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from 'node:crypto';
import { ConfigurationError } from '../errors.js';

/** A key that secrets are sealed with; its bytes are in a `KeyObject`, which no `inspect` or logger prints. */
export interface SealingKey {
  /** Written beside what it sealed, so that several keys can be told apart. */
  readonly id: string;
  /** 32 bytes. */
  readonly key: KeyObject;
}

/** What a sealed text is for: one cannot stand in the place of the other. */
export type SealedUse = 'secret' | 'auth' | 'tls';

/**
 * Something that stands sealed in the tables cannot be read with the keys of this application. Nothing is lost by it: what
 * waits for the listener waits on.
 *
 * `SECRET_KEY_MISSING`: it was sealed with a key whose id is not in `secrets.keys`. `SECRET_UNREADABLE`: there is a key of that
 * id, and it is another one; or the row was changed, or copied from another listener.
 */
export class UnreadableSecretError extends ConfigurationError {}

const ALGORITHM = 'aes-256-gcm';
const PREFIX = 'sealed:';
const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Opened texts that are kept: enough for the listeners that are busy now. */
const MAX_OPENED = 10_000;
/** Longer ones, certificates, are not: that many of them would be half a gigabyte. */
const MAX_KEPT_LENGTH = 10 * 1024;

/**
 * Seals secrets for the tables: AES-256-GCM under a random nonce, with the use and the listener's id as associated data, so
 * that a row's secret opens in no other row. Credentials are bound to the origin of the listener's URL, too: whoever writes another URL
 * into the row is not sent them.
 *
 * The first key seals, all of them open; with none everything stays as it is. With `requireSealed` nothing opens that is not sealed.
 */
export class Sealing {
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #first: SealingKey | undefined;
  readonly #opened = new Map<string, string>();

  /** @param requireSealed whoever can write the tables could otherwise write a secret that they know */
  constructor(
    keys: readonly SealingKey[],
    readonly requireSealed = false,
  ) {
    this.#keys = new Map(keys.map(({ id, key }) => [id, key]));
    this.#first = keys[0];
  }

  /** Whether there is a key. */
  get isOn(): boolean {
    return this.#first !== undefined;
  }

  /** `sealed:<key id>:<base64url of version, nonce, text and tag>`, or the text itself without a key. */
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
   * The text as it was before {@link seal}; one that was stored without a key, as it is.
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
        `A secret of listener ${listenerId} is sealed with the key '${sealed.keyId}', which is not in secrets.keys: add it behind the first.`,
        { details: { listenerId, keyId: sealed.keyId } },
      );
    }
    const text = decrypt(sealed.box, key, associatedData(sealed.keyId, { use, listenerId, origin }));
    if (text === null) {
      throw new UnreadableSecretError(
        'SECRET_UNREADABLE',
        `A secret of listener ${listenerId} does not open with the key '${sealed.keyId}' of secrets.keys: either another key had this id when the secret was sealed, or the row (perhaps its URL) was changed.`,
        { details: { listenerId, keyId: sealed.keyId } },
      );
    }
    if (stored.length > MAX_KEPT_LENGTH) return text;
    if (this.#opened.size >= MAX_OPENED) this.#opened.clear();
    this.#opened.set(name, text);
    return text;
  }

  /** Whether {@link seal} would give something else: it is not sealed, or not with the first key. */
  isOutdated(stored: string): boolean {
    return this.#first !== undefined && parse(stored)?.keyId !== this.#first.id;
  }

  /** Sealed with the first key. What is already comes back as it is. @throws UnreadableSecretError */
  reseal(stored: string, use: SealedUse, listenerId: string, origin = ''): string {
    if (!this.isOutdated(stored)) return stored;
    return this.seal(this.open(stored, use, listenerId, origin), use, listenerId, origin);
  }

  private plain(stored: string, listenerId: string): string {
    if (!this.requireSealed) return stored;
    throw new UnreadableSecretError(
      'SECRET_NOT_SEALED',
      `A secret of listener ${listenerId} is not sealed, and secrets.requireSealed is on: turn it off and run resealSecrets(), or find out who wrote it.`,
      { details: { listenerId } },
    );
  }
}

interface BoundTo {
  readonly use: SealedUse;
  readonly listenerId: string;
  /** Of the listener's URL, for its credentials; `''` for its secrets. */
  readonly origin: string;
}

function associatedData(keyId: string, { use, listenerId, origin }: BoundTo): Buffer {
  return Buffer.from(JSON.stringify(['nestjs-entity-webhooks', VERSION, keyId, use, listenerId, origin]));
}

/** `null`: it is not sealed. No secret, key or JSON begins like this. */
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
    return null; // which of the two it was, a wrong key or a changed row, the cipher cannot tell
  }
}
