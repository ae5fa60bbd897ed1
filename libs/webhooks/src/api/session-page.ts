import { parseUrl } from '../parse-url.js';
import { invalidRequest } from './api-error.js';
import type { Schema } from './schema.js';

/** The look of the dashboard or portal in one session. It is part of the signed token, so nobody can change it on the way. */
export interface SessionPage {
  /** The colours of the page; `null` means the colours that the dashboard module sets. */
  readonly theme: 'auto' | 'light' | 'dark' | null;
  /** The language of the page, such as `pt-BR`. */
  readonly locale: string | null;
  /** The colour of links and of main buttons. */
  readonly accent: string | null;
  /** A `data:` URL of an image, or a path on the same origin. */
  readonly logo: string | null;
  /** The only origins whose pages may contain the page in a frame; `null` means every origin that the dashboard module allows. */
  readonly parentOrigins: readonly string[] | null;
  /** The URL to which the page leads when the session is over. */
  readonly returnUrl: string | null;
  /** The first screen. */
  readonly next: string | null;
}

/** The look without settings: of callers without a session, and of sessions that set nothing. */
export const NO_PAGE: SessionPage = Object.freeze({
  theme: null,
  locale: null,
  accent: null,
  logo: null,
  parentOrigins: null,
  returnUrl: null,
  next: null,
});

// With these limits a token stays below 8 KB, the header size that proxies accept by default.
const MAX_LOCALE_LENGTH = 35; // RFC 5646, 4.4.1
const MAX_LOGO_LENGTH = 1024;
const MAX_URL_LENGTH = 1024;
const MAX_NEXT_LENGTH = 255;
const MAX_PARENTS = 5;
const MAX_ORIGIN_LENGTH = 255;

/** Properties of the request that creates a session. */
export const SESSION_PAGE_SCHEMA = {
  theme: { type: 'string', enum: ['auto', 'light', 'dark'], description: 'The colours of the page.' },
  locale: {
    type: 'string',
    pattern: '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$',
    maxLength: MAX_LOCALE_LENGTH,
    description: 'The language of the page (BCP 47).',
    example: 'pt-BR',
  },
  accent: {
    type: 'string',
    pattern: '^#[0-9A-Fa-f]{6}$',
    description: 'The colour of links and of main buttons.',
    example: '#4f46e5',
  },
  logo: {
    type: 'string',
    maxLength: MAX_LOGO_LENGTH,
    pattern: '^(data:image/|/(?![/\\\\]))',
    description: 'A data: URL of a small image, or a path on the same origin.',
  },
  parentOrigins: {
    type: 'array',
    items: { type: 'string', maxLength: MAX_ORIGIN_LENGTH },
    minItems: 1,
    maxItems: MAX_PARENTS,
    description:
      'The only origins whose pages may contain the page in a frame. They must be among portal.embedOrigins.',
    example: ['https://app.example.com'],
  },
  returnUrl: {
    type: 'string',
    maxLength: MAX_URL_LENGTH,
    description: 'Where the page sends its reader when the session is over: a URL, or a path on the same origin.',
  },
  next: {
    type: 'string',
    maxLength: MAX_NEXT_LENGTH,
    pattern: '^/(?![/\\\\])',
    description: 'The first screen.',
    example: '/listeners',
  },
} satisfies Record<keyof SessionPage, Schema>;

/** The schema of the property `page` in the answer of `/me`. */
export const SHOWN_SESSION_PAGE: Readonly<Record<string, Schema>> = Object.fromEntries(
  Object.entries(SESSION_PAGE_SCHEMA as Record<string, Schema>).map(
    ([name, { type, description = '', enum: values, items }]) => [
      name,
      {
        type,
        nullable: true,
        description: `${description} null: not set.`,
        ...(values && { enum: values }),
        ...(items && { items }),
      },
    ],
  ),
) as Readonly<Record<string, Schema>>;

/**
 * Reads the settings of the page from a checked body.
 *
 * @throws ApiError `INVALID_REQUEST`
 */
export function readSessionPage(body: Readonly<Record<string, unknown>>): SessionPage {
  const names = Object.keys(NO_PAGE) as (keyof SessionPage)[];
  const page = Object.fromEntries(names.map((name) => [name, body[name] ?? null])) as unknown as SessionPage;
  const wrong = page.parentOrigins?.findIndex((one) => !isOrigin(one)) ?? -1;
  if (wrong >= 0) {
    throw invalidRequest([
      { pointer: `/parentOrigins/${wrong}`, detail: 'must be an origin such as https://app.example.com' },
    ]);
  }
  if (page.returnUrl !== null && !isReturnUrl(page.returnUrl)) {
    throw invalidRequest([
      {
        pointer: '/returnUrl',
        detail: 'must be a URL that begins with https:// or http://, or a path that begins with one /',
      },
    ]);
  }
  return page;
}

/** Reads the settings from a verified token. They were checked when the token was signed. */
export function signedPage(claims: unknown): SessionPage {
  return typeof claims === 'object' && claims !== null ? { ...NO_PAGE, ...claims } : NO_PAGE;
}

function isOrigin(text: string): boolean {
  const url = parseUrl(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.origin === text;
}

/** Whether a text can be a link in a page. A `javascript:` URL is not allowed. */
function isReturnUrl(text: string): boolean {
  if (/[\p{Cc}\s\\]/u.test(text)) return false;
  return /^\/(?!\/)/.test(text) || (/^https?:\/\//i.test(text) && parseUrl(text) !== null);
}
