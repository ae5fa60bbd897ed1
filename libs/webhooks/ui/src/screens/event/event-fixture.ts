import type { StoredEvent } from '../../session/shapes.js';

/** An event in JSON, for a test of a receiver: its id, and the payload as the format `standard` sends it. */
export function eventFixtureOf({ id, type, timestamp, data, previous, test }: StoredEvent): string {
  const payload = { type, timestamp, data, ...(previous !== null && { previous }), ...(test && { test }) };
  return `${JSON.stringify({ id, payload }, null, 2)}\n`;
}
