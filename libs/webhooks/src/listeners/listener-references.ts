import { STORED_UNCHANGED } from '../foreign-text.js';
import type { JsonObject } from '../json.js';
import { externalKeyOf } from '../store/listeners/listener-rows.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { ListenerReferences } from './listener.js';

const MAX_EXTERNAL_ID_LENGTH = 255;
const MAX_METADATA_BYTES = 4 * 1_024;

/** {@link ListenerReferences} in the form in which a row stores them. */
export interface StoredReferences {
  externalId: string | null;
  externalKey: Buffer | null;
  metadata: string | null;
}

/** Checks the given references. @returns the columns of the given references @throws InvalidListenerError `INVALID_LISTENER` */
export function storedReferences(
  owner: string | null,
  { externalId, metadata }: ListenerReferences,
): Partial<StoredReferences> {
  return {
    ...(externalId === undefined ? {} : storedExternalId(owner, externalId)),
    ...(metadata === undefined ? {} : { metadata: metadataText(metadata) }),
  };
}

function storedExternalId(
  owner: string | null,
  id: string | null,
): Pick<StoredReferences, 'externalId' | 'externalKey'> {
  if (id === null) return { externalId: null, externalKey: null };
  assertExternalId(id);
  return { externalId: id, externalKey: externalKeyOf(owner, id) };
}

/** @throws InvalidListenerError `INVALID_LISTENER` */
export function assertExternalId(id: unknown): asserts id is string {
  if (typeof id === 'string' && id !== '' && id.length <= MAX_EXTERNAL_ID_LENGTH && STORED_UNCHANGED.test(id)) return;
  throw new InvalidListenerError(
    'INVALID_LISTENER',
    `\`externalId\` must be a string of 1 to ${MAX_EXTERNAL_ID_LENGTH} characters, without NUL and without half a surrogate pair.`,
  );
}

function metadataText(metadata: JsonObject | null): string | null {
  if (metadata === null) return null;
  const text = typeof metadata === 'object' && !Array.isArray(metadata) ? jsonOf(metadata) : undefined;
  if (text !== undefined && Buffer.byteLength(text) <= MAX_METADATA_BYTES) return text;
  throw new InvalidListenerError(
    'INVALID_LISTENER',
    `\`metadata\` must be a JSON object of at most ${MAX_METADATA_BYTES} bytes, or null.`,
  );
}

function jsonOf(value: object): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // a circular reference or a bigint
  }
}
