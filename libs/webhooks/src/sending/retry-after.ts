/** The three date formats of RFC 9110 section 5.6.7. Two of these formats name GMT. The last format is in UTC by definition. */
const HTTP_DATES = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]+, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
];

/**
 * How long a `Retry-After` header asks to wait, in milliseconds from `nowMs`. A date in the past gives 0. The result is
 * at most `capMs`. The result is `null` if there is no header, or if the header is neither a whole number of seconds
 * nor an HTTP date (RFC 9110 section 10.2.3). Then the retry schedule decides alone.
 */
export function retryAfterMs(header: string | undefined, nowMs: number, capMs: number): number | null {
  const value = header?.trim();
  if (value === undefined) return null;
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1000, capMs);
  if (!HTTP_DATES.some((form) => form.test(value))) return null;
  const at = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`);
  return Number.isNaN(at) ? null : Math.min(Math.max(at - nowMs, 0), capMs);
}
