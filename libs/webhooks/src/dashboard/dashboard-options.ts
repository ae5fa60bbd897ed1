import { DECORATORS, pathOption } from '../module-options.js';
import { canBeOff, flag, group, oneOf, option, optional, type OptionTable } from '../option-table.js';
import { parseUrl } from '../parse-url.js';

/** The languages of the pages. */
export const LOCALES = ['en', 'de', 'fr', 'es', 'pt-BR', 'ja'] as const;

/** A language of the pages. */
export type DashboardLocale = (typeof LOCALES)[number];

/** Options of `WebhooksDashboardModule.forRoot()`. */
export interface WebhooksDashboardOptions {
  /**
   * Path of the pages, below the global prefix of the application. The pages call the API at `v1` below the same path, so it must be the
   * path of `WebhooksApiModule`.
   *
   * @defaultValue `'webhooks'`
   */
  path?: string;
  /**
   * Whether to serve the page for operators, at `<path>/dashboard`.
   *
   * @defaultValue true
   */
  operators?: boolean;
  /**
   * The page for customers, at `<path>/portal`, and the script `<path>/embed.js`, which puts this page into your own pages. `{}` serves
   * them with every default.
   *
   * @defaultValue false
   */
  portal?: PortalOptions | false;
  /**
   * Decorators for the controllers, such as the application's `Public()` if a global guard requires a login. The pages themselves contain
   * no data. The API checks each caller.
   *
   * @defaultValue none
   */
  decorators?: readonly ClassDecorator[];
}

/** The look of the portal, and the sites that may embed it. */
export interface PortalOptions {
  /**
   * Origins of pages that may contain the portal in a frame, such as `https://app.example.com`. Pages of the same origin always may contain
   * it.
   *
   * @defaultValue none
   */
  embedOrigins?: readonly string[];
  /**
   * The colour of links and of main buttons, such as `#4f46e5`. Choose a colour on which white text can be read.
   *
   * @defaultValue none: the colour of this package
   */
  accent?: string;
  /**
   * A logo for the top of the page, as a `data:` URL of an image, or as a path on the same origin.
   *
   * @defaultValue none
   */
  logo?: string;
  /**
   * The colours of the page. `'auto'` follows the settings of the browser.
   *
   * @defaultValue `'auto'`
   */
  theme?: 'auto' | 'light' | 'dark';
  /**
   * Your own texts, by the keys of `docs/dashboard.md#texts`, for every language.
   *
   * @defaultValue none
   */
  messages?: Readonly<Record<string, string>>;
  /**
   * The languages that are offered. The first language is used if the browser prefers none of them.
   *
   * @defaultValue all: en, de, fr, es, pt-BR, ja
   */
  locales?: readonly DashboardLocale[];
}

const PORTAL = group({
  embedOrigins: option<readonly string[]>(Object.freeze([]), {
    allowed: 'an array of origins such as https://app.example.com',
    isAllowed: (given) => Array.isArray(given) && given.every(isOrigin),
  }),
  accent: optional<string>({
    allowed: 'a colour such as #4f46e5',
    isAllowed: (given) => typeof given === 'string' && /^#[\da-f]{6}$/i.test(given),
  }),
  logo: optional<string>({
    allowed: 'a data: URL of an image, or a path that begins with one /',
    isAllowed: (given) => typeof given === 'string' && /^(?:data:image\/|\/(?!\/))/.test(given),
  }),
  theme: oneOf('auto', ['auto', 'light', 'dark']),
  messages: option<Readonly<Record<string, string>>>(Object.freeze({}), {
    allowed: 'an object of texts',
    isAllowed: isTexts,
  }),
  locales: option<readonly DashboardLocale[]>(LOCALES, {
    allowed: `a list of ${LOCALES.map((one) => `'${one}'`).join(', ')}`,
    isAllowed: (given) => Array.isArray(given) && given.length > 0 && given.every((one) => LOCALES.includes(one)),
  }),
} satisfies OptionTable<PortalOptions>);

/** Every option of `WebhooksDashboardModule.forRoot()`. */
export const DASHBOARD_OPTIONS = {
  path: pathOption('webhooks'),
  operators: flag(true),
  portal: canBeOff(PORTAL, false),
  decorators: DECORATORS,
} satisfies OptionTable<WebhooksDashboardOptions>;

function isOrigin(given: unknown): boolean {
  const url = typeof given === 'string' ? parseUrl(given) : undefined;
  return url != null && url.origin === given && /^https?:$/.test(url.protocol);
}

function isTexts(given: unknown): boolean {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return false;
  return Object.values(given).every((text) => typeof text === 'string');
}
