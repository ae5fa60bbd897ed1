export type Headers = Readonly<Record<string, string>>;

/**
 * Only own scripts, styles and requests, and no page of another origin around it, unless `embedOrigins` names the origin. Styles that a script
 * sets on an element are allowed, `<style>` and `style="…"` are not.
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

/** Of the page for operators: no frame may contain it. */
export const DASHBOARD_HEADERS: Headers = {
  ...COMMON,
  'Cache-Control': 'no-cache',
  'Content-Security-Policy': policy("'none'"),
  'X-Frame-Options': 'DENY',
};

/** Of the page for customers. `X-Frame-Options` cannot name origins, so `frame-ancestors` alone decides. */
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
