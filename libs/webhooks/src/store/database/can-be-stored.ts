/**
 * Whether a short column can hold this search text. PostgreSQL rejects a NUL with an error, and the collations of MySQL find `a` when `a `
 * is searched. None of our ids, types and states has a NUL or ends with a space.
 */
export function canBeStored(text: string): boolean {
  return !text.includes('\0') && !text.endsWith(' ');
}
