/** Rows of the images table that are no images but transaction marks: SQLite has no session settings. */
export const SKIP_MARK = -1;

export const CONTEXT_MARK = -2;

export const TRANSACTION_MARK = -3;
