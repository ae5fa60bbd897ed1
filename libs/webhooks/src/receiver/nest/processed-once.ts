/** What became of a webhook that is processed once. */
export type ProcessedOnce<T> =
  | { readonly isDuplicate: false; /** What the function gave. */ readonly result: T }
  | { readonly isDuplicate: true; readonly result: undefined };
