/** Converts a number of a row. Drivers return 64-bit integers as text. */
export function numberOrNull(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value);
}
