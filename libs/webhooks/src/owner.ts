/** Longest owner, in characters: the width of its column. */
export const MAX_OWNER_LENGTH = 255;

/** The sentence of every `INVALID_OWNER` that a listener or a service can cause. */
export const INVALID_OWNER_MESSAGE = `\`owner\` must be a string of 1 to ${MAX_OWNER_LENGTH} characters, without NUL and without halves of surrogate pairs.`;
/** For a service that is bound to an owner. */
export const OTHER_OWNER_MESSAGE = '`owner` names another owner: leave it out.';

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
