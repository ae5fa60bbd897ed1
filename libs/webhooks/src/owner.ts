/** Longest owner, in characters: the width of its column. */
export const MAX_OWNER_LENGTH = 255;

/** NUL, which PostgreSQL refuses, and halves of surrogate pairs, which UTF-8 turns into one and the same character. */
const NEVER_STORED_AS_IT_IS = /[\0\p{Surrogate}]/u;

/** Whether every database keeps this text as it is, so that two owners never become one. */
export function isOwnerText(text: string): boolean {
  return text !== '' && text.length <= MAX_OWNER_LENGTH && !NEVER_STORED_AS_IT_IS.test(text);
}

/** An owner as it is stored and compared: `String(owner)`; `undefined` for what can be nobody's name. */
export function ownerText(owner: unknown): string | undefined {
  if (typeof owner === 'number' && !Number.isFinite(owner)) return undefined;
  if (typeof owner !== 'string' && typeof owner !== 'number' && typeof owner !== 'bigint') return undefined;
  const text = String(owner);
  return isOwnerText(text) ? text : undefined;
}
