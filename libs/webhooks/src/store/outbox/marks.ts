/** Rows of the images' table that are none, but say what holds in this transaction: SQLite has no settings of a session. */
export const SKIP_MARK = -1;

export const CONTEXT_MARK = -2;

export const TRANSACTION_MARK = -3;
