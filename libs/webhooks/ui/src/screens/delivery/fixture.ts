import type { Attempt } from '../../session/shapes.js';

/** The sign that stands for a secret value in headers that the log keeps. */
const MASK = '***';

/**
 * One request of the log in JSON, for a test of a receiver. The signature is that of the request, so the test verifies it at the time
 * `sentAt`. Headers with a secret value are left out.
 *
 * @param body the exact text that was sent
 */
export function fixtureOf({ url, startedAt, requestHeaders }: Attempt, body: string): string {
  const headers = Object.entries(requestHeaders ?? {}).filter(([, value]) => !value.includes(MASK));
  return `${JSON.stringify({ method: 'POST', url, sentAt: startedAt, headers: Object.fromEntries(headers), body }, null, 2)}\n`;
}
