export type Headers = Readonly<Record<string, string>>;

/**
 * Allows only scripts, styles and requests of the same origin. Pages of other origins may contain the page in a frame only if
 * `embedOrigins` names them. A script may set styles of elements, but `<style>` and `style="…"` are blocked.
 */
function policy(ancestors: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    `frame-ancestors ${ancestors}`,
    "require-trusted-types-for 'script'",
  ].join('; ');
}

const COMMON: Headers = { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' };

/** Headers of the page for operators. No page may contain it in a frame. */
export const DASHBOARD_HEADERS: Headers = {
  ...COMMON,
  'Cache-Control': 'no-cache',
  'Content-Security-Policy': policy("'none'"),
  'X-Frame-Options': 'DENY',
};

/** Headers of the page for customers. `X-Frame-Options` cannot name origins, so `frame-ancestors` alone decides. */
export function portalHeaders(embedOrigins: readonly string[]): Headers {
  const ancestors = ["'self'", ...embedOrigins].join(' ');
  return { ...COMMON, 'Cache-Control': 'no-cache', 'Content-Security-Policy': policy(ancestors) };
}

/** Names of assets contain a hash of their bytes. */
export const ASSET_HEADERS: Headers = { ...COMMON, 'Cache-Control': 'public, max-age=31536000, immutable' };

/** Pages of other origins load this script, so helmet's `Cross-Origin-Resource-Policy: same-origin` must not apply. */
export const EMBED_HEADERS: Headers = {
  ...COMMON,
  'Cache-Control': 'public, max-age=300',
  'Cross-Origin-Resource-Policy': 'cross-origin',
};
