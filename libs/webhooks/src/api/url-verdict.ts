/** The answer of `checkUrl`. */
export interface UrlVerdict {
  readonly url: string | null;
  readonly allowed: boolean;
  readonly code: string | null;
  readonly detail: string | null;
}
