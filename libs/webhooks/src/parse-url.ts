/**
 * Parses an absolute URL.
 *
 * This function does not call `URL.canParse()`. On Node.js 20, after some thousand calls, `URL.canParse()` returns false for every URL with
 * a character between U+0080 and U+00FF, such as `https://bücher.example`. After these calls, V8 uses a fast variant of the function. The
 * fast variant wrongly reads these characters as UTF-8.
 *
 * @returns `null` if the text is no absolute URL
 */
export function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
