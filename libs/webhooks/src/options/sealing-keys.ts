import { createSecretKey } from 'node:crypto';
import { invalidOption, within, type OptionPlace } from '../option-table.js';
import type { SealingKey } from '../secrets/sealing.js';
import { decodeBase64 } from '../signing/secret.js';

const KEY_BYTES = 32;

/**
 * The option `secrets.keys`. No error shows a given value, because a key with a typing error still reveals most of
 * the real key.
 *
 * @throws ConfigurationError `INVALID_OPTION`
 */
export function sealingKeys(given: readonly unknown[], place: OptionPlace): readonly SealingKey[] {
  const ids = new Set<string>();
  const keys = given.map((entry, index) => {
    const here = { ...place, key: `${place.key}[${index}]` };
    const key = sealingKey(entry, here);
    if (ids.has(key.id)) {
      throw invalidOption({ ...within(here, 'id'), isSecret: false }, key.id, 'an id that no other key has');
    }
    ids.add(key.id);
    return key;
  });
  return Object.freeze(keys);
}

function sealingKey(entry: unknown, place: OptionPlace): SealingKey {
  const { id, key, ...others } = (entry ?? {}) as Record<string, unknown>;
  if (typeof id !== 'string' || !/^[\w.-]{1,32}$/.test(id) || Object.keys(others).length > 0) {
    throw invalidOption(place, entry, "{ id, key }, where id has 1 to 32 letters, digits, '-', '_' and '.'");
  }
  const bytes = typeof key === 'string' ? decodeBase64(key) : key instanceof Uint8Array ? key : null;
  if (bytes?.length !== KEY_BYTES) {
    const fix = 'Generate a key with: openssl rand -base64 32.';
    throw invalidOption(within(place, 'key'), key, `${KEY_BYTES} bytes, or their base64`, fix);
  }
  return Object.freeze({ id, key: createSecretKey(bytes) });
}
