import type { Received } from '../receiver/receiver.service.js';

/** One request in one aligned line. */
export function receivedLine({ endpoint, attempt, verdict, status, body }: Received): string {
  const columns = [
    verdict === 'verified' ? '✔' : '✖',
    (body?.type ?? '?').padEnd(15),
    '->',
    endpoint.padEnd(10),
    (verdict === 'verified' ? verdict : `${verdict}, ${status}`).padEnd(11),
    `attempt ${attempt} `,
    body ? JSON.stringify(shownData(body)) : '',
  ];
  return `  ${columns.join(' ')}`.trimEnd();
}

/** The data to print. For an update, only the changed properties. */
function shownData({ data, previous }: NonNullable<Received['body']>): Readonly<Record<string, unknown>> {
  if (!previous) return data;
  return Object.fromEntries(Object.keys(previous).map((property) => [property, data[property]]));
}
