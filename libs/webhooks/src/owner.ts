import { STORED_UNCHANGED } from './foreign-text.js';

/** Maximum length of an owner, in characters: the width of the column. */
const MAX_OWNER_LENGTH = 255;

/** Describes valid owners in error messages. */
export const OWNER_TEXTS = `a string of 1 to ${MAX_OWNER_LENGTH} characters, without NUL and without half a surrogate pair`;

/** The message of `INVALID_OWNER` if a call names an invalid owner. */
export const INVALID_OWNER_MESSAGE = `\`owner\` must be ${OWNER_TEXTS}.`;
/** The message of `INVALID_OWNER` if a call of an owner-bound service names another owner, or is not allowed for owners. */
export const OTHER_OWNER_MESSAGE = '`owner` names another owner. Leave `owner` out.';

/** Whether every database stores this text unchanged. Otherwise two owners could become the same owner. */
export function isOwnerText(text: string): boolean {
  return text !== '' && text.length <= MAX_OWNER_LENGTH && STORED_UNCHANGED.test(text);
}

/** An owner in the form in which it is stored and compared: `String(owner)`. `undefined` if the value is not a valid owner. */
export function ownerText(owner: unknown): string | undefined {
  if (typeof owner === 'number' && !Number.isFinite(owner)) return undefined;
  if (typeof owner !== 'string' && typeof owner !== 'number' && typeof owner !== 'bigint') return undefined;
  const text = String(owner);
  return isOwnerText(text) ? text : undefined;
}
