/** The result of `processInTransaction()`. */
export type ProcessedOnce<T> =
  | { readonly isDuplicate: false; /** What `process` returned. */ readonly result: T }
  | { readonly isDuplicate: true; readonly result: undefined };
