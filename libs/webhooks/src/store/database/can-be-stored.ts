/**
 * Whether a short column can hold this search text. PostgreSQL rejects a NUL with an error. With MySQL's collations, a search for `a ` also
 * finds `a`. No id, type or state of this library has a NUL or ends with a space.
 */
export function canBeStored(text: string): boolean {
  return !text.includes('\0') && !text.endsWith(' ');
}
