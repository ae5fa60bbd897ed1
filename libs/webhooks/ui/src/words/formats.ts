import { currentLocale } from './locale.js';

// Making a formatter takes as long as a hundred uses of it, and a row of a table uses three.

/** @returns a function that makes each formatter once for a language */
function once<Form extends object, Format>(
  make: (locale: string, form: Form) => Format,
): (form: Form, locale?: string) => Format {
  const made = new Map<string, Format>();
  return (form, locale = currentLocale()) => {
    const key = `${locale} ${JSON.stringify(form)}`;
    const known = made.get(key);
    if (known !== undefined) return known;
    const format = make(locale, form);
    made.set(key, format);
    return format;
  };
}

export const dateFormat = once((locale, form: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat(locale, form));
export const numberFormat = once((locale, form: Intl.NumberFormatOptions) => new Intl.NumberFormat(locale, form));
export const relativeFormat = once(
  (locale, form: Intl.RelativeTimeFormatOptions) => new Intl.RelativeTimeFormat(locale, form),
);
