import type { Json, JsonObject } from '../json.js';
import type { WebhookEvent } from './webhook-event.js';

export interface PayloadLimits {
  /** The maximum size of a sent payload, in UTF-8 bytes. A larger payload is sent thin (without its largest fields). */
  readonly maxPayloadBytes: number;
  /** The maximum size of a stored payload, in UTF-8 bytes. A larger payload is stored without its largest fields. */
  readonly maxStoredBytes: number;
}

/** The texts of an event. These texts are stored, compared with filters, signed and sent. */
export interface StoredPayload {
  /** The canonical text. Only if it would exceed `maxStoredBytes`, fields are left out. */
  readonly text: string;
  /** The text that is sent instead of `text` when `text` exceeds `maxPayloadBytes`. */
  readonly thin: string | null;
  /** Top-level fields of `data` and `previous` that were too large to store. A filter on such a field counts as matching. */
  readonly dropped: readonly string[] | null;
}

/** The canonical body of an event. `version` is absent in version 1, so version 1 has the same bytes with and without later versions. */
export interface CanonicalBody {
  type: string;
  version?: number;
  timestamp: string;
  test?: true;
  truncated?: true;
  data: JsonObject;
  previous?: JsonObject;
}

/**
 * Renders the canonical text of an event: `{ type, version?, timestamp, data, previous? }`, the shape of Standard Webhooks.
 *
 * `identity` names the fields that a thin payload keeps first: the primary key. An example event has `"test": true`. `version` is the
 * version of its type.
 */
export function renderPayload(
  event: WebhookEvent,
  identity: readonly string[],
  limits: PayloadLimits,
  { isTest = false, version = 1 }: { readonly isTest?: boolean; readonly version?: number } = {},
): StoredPayload {
  const body: CanonicalBody = {
    type: event.type,
    ...(version > 1 ? { version } : {}),
    timestamp: event.timestamp,
    ...(isTest ? { test: true as const } : {}),
    data: event.data,
  };
  if (event.previous) body.previous = event.previous as JsonObject;
  const text = JSON.stringify(body);
  if (byteLength(text) <= limits.maxPayloadBytes) return { text, thin: null, dropped: null };

  const thin = JSON.stringify(shrink(body, identity, limits.maxPayloadBytes).body);
  if (byteLength(text) <= limits.maxStoredBytes) return { text, thin, dropped: null };

  const stored = shrink(body, identity, limits.maxStoredBytes);
  return { text: JSON.stringify(stored.body), thin, dropped: stored.dropped };
}

// `renderPayload` writes the type and the version first, and a type needs no escape in JSON.
const VERSION_OF_TEXT = /^\{"type":"[a-z0-9_.]+","version":(\d+),/;

/** The version of a canonical text. Reads only the start of the text, because every attempt reads it. */
export function versionOf(text: string): number {
  return Number(VERSION_OF_TEXT.exec(text)?.[1] ?? 1);
}

/** The text of a body that another version of an event has. A text above `maxPayloadBytes` is thin. */
export function textOfBody(body: CanonicalBody, identity: readonly string[], maxPayloadBytes: number): string {
  const text = JSON.stringify(body);
  return byteLength(text) <= maxPayloadBytes ? text : JSON.stringify(shrink(body, identity, maxPayloadBytes).body);
}

interface Field {
  part: 'data' | 'previous';
  key: string;
  value: Json;
  bytes: number;
}

/** Keeps the fields of the identity first, and then adds the other fields, the smallest first, until the limit is reached. */
function shrink(body: CanonicalBody, identity: readonly string[], limit: number) {
  const fields: Field[] = [];
  for (const part of ['data', 'previous'] as const) {
    for (const [key, value] of Object.entries(body[part] ?? {})) {
      // The 2 bytes count the colon and the comma. Without them, the sum could be smaller than the text.
      fields.push({ part, key, value, bytes: byteLength(JSON.stringify(key)) + byteLength(JSON.stringify(value)) + 2 });
    }
  }
  const isIdentity = (field: Field) => field.part === 'data' && identity.includes(field.key);
  fields.sort((a, b) => Number(isIdentity(b)) - Number(isIdentity(a)) || a.bytes - b.bytes);

  const { type, version, timestamp } = body;
  const empty: CanonicalBody = {
    type,
    ...(version === undefined ? {} : { version }),
    timestamp,
    truncated: true,
    data: {},
  };
  if (body.previous) empty.previous = {};
  let room = limit - byteLength(JSON.stringify(empty));
  const kept = { data: new Set<string>(), previous: new Set<string>() };
  for (const field of fields) {
    // Skip a field that does not fit, and try the next field. Fields of the identity come first, so a later field may
    // be smaller.
    if (field.bytes > room) continue;
    room -= field.bytes;
    kept[field.part].add(field.key);
  }
  // Fields keep the order of the complete payload.
  const pick = (part: Field['part']) =>
    Object.fromEntries(Object.entries(body[part] ?? {}).filter(([key]) => kept[part].has(key)));
  const shrunk: CanonicalBody = { ...empty, data: pick('data') };
  if (body.previous) shrunk.previous = pick('previous');
  const dropped = [...new Set(fields.filter(({ part, key }) => !kept[part].has(key)).map((field) => field.key))];
  return { body: shrunk, dropped };
}

function byteLength(text: string): number {
  return Buffer.byteLength(text, 'utf8');
}
