/** The three forms of RFC 9110 section 5.6.7; each names UTC, the last one by definition. */
const HTTP_DATES = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]+, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
];

/**
 * How long a `Retry-After` header asks to wait, in milliseconds from `nowMs`: 0 for a date that has passed, at most
 * `capMs`, and `null` when there is no header or it is neither whole seconds nor an HTTP date (RFC 9110 section
 * 10.2.3), in which case the schedule decides alone.
 */
export function retryAfterMs(header: string | undefined, nowMs: number, capMs: number): number | null {
  const value = header?.trim();
  if (value === undefined) return null;
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1000, capMs);
  if (!HTTP_DATES.some((form) => form.test(value))) return null;
  const at = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`);
  return Number.isNaN(at) ? null : Math.min(Math.max(at - nowMs, 0), capMs);
}
