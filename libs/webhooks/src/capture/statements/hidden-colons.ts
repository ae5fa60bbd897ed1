/** A character for private use, which occurs in no name. */
const HIDDEN_COLON = '\u{E000}';

/**
 * Hides colons in SQL of capture that becomes a part of a statement of TypeORM. TypeORM replaces `:y` by the parameter `y` in the whole
 * text, also in the escaped name of a column `x:y`. Statements that do not name such a column would then fail because capture names it.
 */
export function hideColons(sql: string): string {
  return sql.replaceAll(':', HIDDEN_COLON);
}

/** Must be called after TypeORM has replaced the parameters. */
export function showColons(sql: string): string {
  return sql.replaceAll(HIDDEN_COLON, ':');
}
