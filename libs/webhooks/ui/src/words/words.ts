import { settings } from '../app/settings.js';
import { en, type Key } from './en.js';
import { numberFormat } from './formats.js';
import { currentLocale, setLocale } from './locale.js';

export type { Key } from './en.js';

/** The texts of one language. */
type Words = Readonly<Record<Key, string>>;

/** Each is a file of its own, which is loaded when it is wanted. English is part of the page. A table without one of the keys does not compile. */
const LOADERS: Readonly<Record<string, () => Promise<{ readonly default: Words }>>> = {
  de: () => import('./de.js'),
  fr: () => import('./fr.js'),
  es: () => import('./es.js'),
  'pt-BR': () => import('./pt-BR.js'),
  ja: () => import('./ja.js'),
};

let words: Words = ours(en);
const plurals = new Map<string, Intl.PluralRules>();

/** Loads the words of a language. The page shows them after it is drawn again. */
export async function useLanguage(wanted: readonly (string | null | undefined)[]): Promise<void> {
  const name = nearest(wanted.filter((one): one is string => Boolean(one)));
  const loaded = await LOADERS[name]?.();
  words = ours(loaded?.default ?? en);
  setLocale(name);
}

/** Customers know a listener as an endpoint. Other languages have one word for both. */
function ours(given: Words): Words {
  if (settings.page !== 'portal' || given !== en) return given;
  const texts = Object.entries(given).map(([key, text]) => [key, endpointFor(text)] as const);
  return Object.fromEntries(texts) as Words;
}

function endpointFor(text: string): string {
  return text
    .replaceAll(/\b([Aa]) listener/g, '$1n endpoint')
    .replaceAll('listener', 'endpoint')
    .replaceAll('Listener', 'Endpoint');
}

/** The first wanted language that is offered, by its exact name or else by its first part. */
function nearest(wanted: readonly string[], offered: readonly string[] = settings.locales): string {
  for (const one of wanted) {
    const exact = offered.find((name) => name.toLowerCase() === one.toLowerCase());
    const found = exact ?? offered.find((name) => languageOf(name) === languageOf(one));
    if (found !== undefined) return found;
  }
  return offered[0] ?? 'en';
}

function languageOf(name: string): string {
  return (name.split('-')[0] ?? '').toLowerCase();
}

type Values = Readonly<Record<string, string | number>>;

/** A text, with `{name}` replaced. */
export function t(key: Key, values: Values = {}): string {
  const text = settings.messages?.[key] ?? words[key];
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === 'number' ? formatted(value) : value;
  });
}

type Countable = { [K in Key]: K extends `${infer Name}.other` ? Name : never }[Key];

/** A text for a number of things: `key.one` or `key.other`. */
export function count(key: Countable, number: number, values: Values = {}): string {
  const locale = currentLocale();
  const rules = plurals.get(locale) ?? new Intl.PluralRules(locale);
  plurals.set(locale, rules);
  const form = rules.select(number) === 'one' ? 'one' : 'other';
  return t(`${key}.${form}` as Key, { ...values, count: number });
}

function formatted(value: number): string {
  return numberFormat({}).format(value);
}
