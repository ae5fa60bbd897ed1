import { createHash, timingSafeEqual } from 'node:crypto';
import type { Outcome } from '../../sending/outcome.js';

/** The error code of a receiver that answered but did not agree. */
const HANDSHAKE_REFUSED = 'HANDSHAKE_REFUSED';

/** The result of a handshake. `error` is a code of an attempt, or {@link HANDSHAKE_REFUSED}. */
export type Verdict = { readonly agreed: true; readonly allowedRate: number | null } | { readonly error: string };

const REFUSED: Verdict = { error: HANDSHAKE_REFUSED };
/** The largest rate limit that the dispatcher accepts. */
const MAX_RATE = 1_000_000;

/**
 * Whether a 2xx answer contains the challenge. The challenge must be the whole body, or the property `challenge` of a JSON object. Other
 * places in the body do not count, because many servers answer with the body of the request.
 */
export function judgeChallenge(outcome: Outcome, challenge: string): Verdict {
  if (outcome.kind !== 'accepted') return { error: outcome.errorCode ?? HANDSHAKE_REFUSED };
  const given = givenChallenge((outcome.response ?? '').trim());
  return given !== null && isSame(given, challenge) ? { agreed: true, allowedRate: null } : REFUSED;
}

/**
 * Whether a 2xx answer permits this origin. The status alone is not enough, because many servers answer every `OPTIONS` request. The allowed
 * rate must be `*` or a number above zero. The module cannot obey a rate of another form, so such a rate counts as a refusal.
 */
export function judgePermission(outcome: Outcome, origin: string): Verdict {
  if (outcome.kind !== 'accepted') return { error: outcome.errorCode ?? HANDSHAKE_REFUSED };
  const allowed = outcome.permission?.origin?.trim().toLowerCase();
  if (allowed !== '*' && allowed !== origin.toLowerCase()) return REFUSED;
  const rate = outcome.permission?.rate?.trim() ?? '*';
  if (rate === '*') return { agreed: true, allowedRate: null };
  return /^0*[1-9]\d{0,14}$/.test(rate) ? { agreed: true, allowedRate: Math.min(Number(rate), MAX_RATE) } : REFUSED;
}

function givenChallenge(body: string): string | null {
  if (!body.startsWith('{')) return body;
  try {
    const { challenge } = JSON.parse(body) as { challenge?: unknown };
    return typeof challenge === 'string' ? challenge : null;
  } catch {
    return null;
  }
}

/** Compares the hashes of two texts, because `timingSafeEqual` needs values of the same length. */
function isSame(given: string, expected: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(given), hash(expected));
}
