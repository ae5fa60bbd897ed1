/** A wrong value as an error shows it. Never throws: what was given may be anything. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // A bigint, or something that holds itself.
    return typeof value === 'bigint' ? `${value}n` : `a value of type ${typeof value}`;
  }
}
