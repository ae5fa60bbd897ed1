import { argumentError } from '../terminal/cli.js';

/**
 * Reads saved headers: lines of `name: value`, as curl and logs write them, or a JSON object.
 *
 * @returns names in lower case
 * @throws ConfigurationError `INVALID_ARGUMENT` for a text without a header
 */
export function readHeaders(text: string): Record<string, string | undefined> {
  const entries = text.trimStart().startsWith('{') ? fromJson(text) : fromLines(text);
  if (!entries.length) {
    throw argumentError('--headers has no header. Allowed: lines such as "webhook-id: evt_…", or a JSON object.');
  }
  const headers = Object.create(null) as Record<string, string | undefined>;
  for (const [name, value] of entries) {
    const key = name.toLowerCase();
    // Drop a header that occurs twice, as a receiver does: neither value can be trusted.
    headers[key] = key in headers ? undefined : value;
  }
  return headers;
}

function fromLines(text: string): [string, string][] {
  return text.split(/\r?\n/).flatMap((line) => {
    // curl -v puts a mark before each line.
    const [, name, value] = /^(?:[<>*] )?([\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value] satisfies [string, string]];
  });
}

function fromJson(text: string): [string, string][] {
  try {
    const given = JSON.parse(text) as Record<string, unknown>;
    return Object.entries(given).map(([name, value]) => [
      name,
      String(Array.isArray(value) ? value.join(', ') : value),
    ]);
  } catch {
    throw argumentError('--headers starts like JSON, but is no JSON object.');
  }
}
