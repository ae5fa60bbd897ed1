let locale = 'en';

/** The language of the page. */
export function currentLocale(): string {
  return locale;
}

export function setLocale(name: string): void {
  locale = name;
  document.documentElement.lang = name;
}
