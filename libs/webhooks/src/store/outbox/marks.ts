/**
 * The sequence of a row of the images table that is a transaction mark and not an image. SQLite has no session settings, so marks are rows.
 */
export const SKIP_MARK = -1;

export const CONTEXT_MARK = -2;

export const TRANSACTION_MARK = -3;
