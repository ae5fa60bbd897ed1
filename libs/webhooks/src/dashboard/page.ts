import type { PortalOptions } from './dashboard-options.js';
import { etagOf, type DashboardFile, type EntryFiles } from './dashboard-files.js';

/**
 * The data that the server writes into the HTML for the page's script. It is the same for every request, because only the API knows the
 * caller.
 */
export interface PageSettings extends Pick<PortalOptions, 'accent' | 'logo' | 'theme' | 'messages' | 'locales'> {
  readonly page: 'dashboard' | 'portal';
  /** The origins of embedding pages with which the portal exchanges messages. */
  readonly parents: readonly string[];
}

const ESCAPED: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="6" fill="#4f46e5"/>
<path d="M6 13a7 7 0 0 1 5-6.5M6 18a13 13 0 0 1 12-12" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round"/>
<circle cx="16.5" cy="16.5" r="2" fill="#fff"/></svg>`;

/** The HTML of a page. Its URLs are relative, so they work behind every prefix and proxy. */
export function pageFile({ script, style }: EntryFiles, settings: PageSettings): DashboardFile {
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Webhooks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="webhooks-settings" content="${escaped(JSON.stringify(settings))}">
<link rel="icon" href="data:image/svg+xml,${encodeURIComponent(ICON)}">
<link rel="stylesheet" href="assets/${style}">
<script type="module" src="assets/${script}"></script>
</head>
<body>
<div id="root"></div>
<noscript>This page needs JavaScript.</noscript>
</body>
</html>
`;
  const bytes = Buffer.from(html);
  return { type: 'text/html; charset=utf-8', bytes, etag: etagOf(bytes) };
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ESCAPED[character] as string);
}
