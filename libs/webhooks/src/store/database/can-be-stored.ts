/**
 * Whether a text that somebody asks for can stand in a short column at all. PostgreSQL answers a NUL with an error of its
 * own, and MySQL's collations find `a` where `a ` was asked for; no id, type or state of ours has either.
 */
export function canBeStored(text: string): boolean {
  return !text.includes('\0') && !text.endsWith(' ');
}
