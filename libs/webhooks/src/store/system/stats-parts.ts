/** Attempts by outcome. */
export interface OutcomeCounts {
  accepted: number;
  rejected: number;
  unreachable: number;
  blocked: number;
}

/** Attempts by event type, and failed attempts by error code. Types are in lower case and codes in upper case, so no key is both. */
export type StatsParts = Map<string, OutcomeCounts>;

/** The most types, and the most codes, of one row. Attempts of further ones are only in the sums of the row. */
const KEYS_PER_ROW = 64;
/** The longest text of a row. Later figures of the row's time are only in its sums. */
export const MAX_PARTS_LENGTH = 16_000;

const OUTCOMES = ['accepted', 'rejected', 'unreachable', 'blocked'] as const;
const KEY = /^(?:[a-z0-9_.]{1,128}|[A-Z][A-Z0-9_]{0,63})$/;

export function isErrorCode(key: string): boolean {
  return /^[A-Z]/.test(key);
}

/** Counts an attempt. A custom transport may return any error code. Only codes in the form of ours are counted. */
export function countPart(parts: StatsParts, key: string, outcome: keyof OutcomeCounts): void {
  const known = parts.get(key);
  if (known) known[outcome]++;
  else if (KEY.test(key)) parts.set(key, { accepted: 0, rejected: 0, unreachable: 0, blocked: 0, [outcome]: 1 });
}

export function addParts(to: StatsParts, from: StatsParts): void {
  for (const [key, counts] of from) {
    const sums = to.get(key) ?? { accepted: 0, rejected: 0, unreachable: 0, blocked: 0 };
    for (const outcome of OUTCOMES) sums[outcome] += counts[outcome];
    to.set(key, sums);
  }
}

/** The number of attempts. */
export function attemptsOf({ accepted, rejected, unreachable, blocked }: OutcomeCounts): number {
  return accepted + rejected + unreachable + blocked;
}

/**
 * The text of a row: `order.updated 5 0 1;TIMEOUT 0 0 1;`. The counts are in the order of the outcomes, without zeros at the end. Texts can be
 * appended to each other: keys that occur twice are added. So a process adds its figures without reading the row.
 */
export function partsText(parts: StatsParts): string | null {
  const busiest = [...parts].toSorted(([, a], [, b]) => attemptsOf(b) - attemptsOf(a));
  const types = busiest.filter(([key]) => !isErrorCode(key)).slice(0, KEYS_PER_ROW);
  const codes = busiest.filter(([key]) => isErrorCode(key)).slice(0, KEYS_PER_ROW);
  const text = [...types, ...codes].map(([key, counts]) => {
    const numbers = OUTCOMES.map((outcome) => counts[outcome]).join(' ');
    return `${key} ${numbers.replace(/(?: 0)+$/, '')};`;
  });
  return text.length ? text.join('') : null;
}

export function readParts(text: string | null): StatsParts {
  const parts: StatsParts = new Map();
  for (const entry of text?.split(';') ?? []) {
    const [key, ...numbers] = entry.split(' ');
    if (!key) continue;
    const [accepted = 0, rejected = 0, unreachable = 0, blocked = 0] = numbers.map(Number);
    addParts(parts, new Map([[key, { accepted, rejected, unreachable, blocked }]]));
  }
  return parts;
}
