import { readFile } from 'node:fs/promises';
import { ConfigurationError } from '../../errors.js';
import { messageOf } from '../../foreign-text.js';
import { SECOND } from '../../time.js';

const ANSWERED_WITHIN_MS = 10 * SECOND;

/**
 * The public keys of a JSON Web Key Set, as `WebhooksKeysModule` serves it.
 *
 * @param place a URL, or `@file`
 * @returns `whpk_…`
 * @throws ConfigurationError `KEY_SET_UNREADABLE`
 */
export async function readKeySet(place: string): Promise<string[]> {
  try {
    const text = place.startsWith('@') ? await readFile(place.slice(1), 'utf8') : await fetched(place);
    const { keys } = JSON.parse(text) as { keys: { kty?: string; crv?: string; x?: string }[] };
    const found = keys.filter(({ kty, crv }) => kty === 'OKP' && crv === 'Ed25519');
    if (!found.length) throw new Error('it has no Ed25519 key');
    return found.map(({ x = '' }) => `whpk_${Buffer.from(x, 'base64url').toString('base64')}`);
  } catch (cause) {
    throw new ConfigurationError(
      'KEY_SET_UNREADABLE',
      `The key set ${place} cannot be read: ${messageOf(cause)}. Allowed: a URL or an @file of a JSON Web Key Set with Ed25519 keys.`,
      { cause },
    );
  }
}

async function fetched(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(ANSWERED_WITHIN_MS) });
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return response.text();
}
