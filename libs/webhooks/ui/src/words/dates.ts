import { dateFormat, numberFormat, relativeFormat } from './formats.js';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const STEPS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ['day', DAY],
  ['hour', HOUR],
  ['minute', MINUTE],
  ['second', SECOND],
];

/** `3 min. ago`, `in 2 hr.` */
export function relative(at: string | Date, now = Date.now(), style: 'short' | 'long' = 'short'): string {
  const difference = new Date(at).getTime() - now;
  const [unit, size] = STEPS.find(([, size]) => Math.abs(difference) >= size) ?? (['second', SECOND] as const);
  const format = relativeFormat({ numeric: 'auto', style });
  return format.format(Math.trunc(difference / size), unit);
}

/** `3 minutes ago`, for sentences: the short form may end with a full stop. */
export function relativeInWords(at: string | Date): string {
  return relative(at, Date.now(), 'long');
}

/** `30 Nov 2026, 17:04:31`, in the zone of the browser. */
export function absolute(at: string | Date): string {
  return dateFormat({ dateStyle: 'medium', timeStyle: 'medium' }).format(new Date(at));
}

/** The time with seconds, or the day with the time if it is not today. */
export function clockTime(at: string | Date, now = new Date()): string {
  const date = new Date(at);
  const isToday = date.toDateString() === now.toDateString();
  const form = isToday
    ? ({ timeStyle: 'medium' } as const)
    : ({ month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' } as const);
  return dateFormat(form).format(date);
}

/** The name of the browser's time zone. */
export function zone(): string {
  return dateFormat({}).resolvedOptions().timeZone;
}

/** `84 ms`, `1.2 s`, `3 min` */
export function duration(ms: number): string {
  const [value, unit] = ms < SECOND ? [ms, 'millisecond'] : ms < MINUTE ? [ms / SECOND, 'second'] : longer(ms);
  const form = { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: value < 10 ? 1 : 0 } as const;
  return numberFormat(form).format(value);
}

function longer(ms: number): [value: number, unit: string] {
  if (ms < HOUR) return [ms / MINUTE, 'minute'];
  return ms < DAY ? [ms / HOUR, 'hour'] : [ms / DAY, 'day'];
}

/** `17:05`, `5:05 PM`, or `30 Nov` for a day: a place on the axis of a chart. */
export function tick(at: number, isDay: boolean): string {
  const date = new Date(at);
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
  const form =
    isDay || isMidnight
      ? ({ month: 'short', day: 'numeric' } as const)
      : ({ hour: 'numeric', minute: '2-digit' } as const);
  return dateFormat(form).format(date);
}

/** `30 Nov, 17:00 – 18:00`, or the day alone. */
export function span(from: number, until: number): string {
  const isDay = until - from >= DAY;
  const form = isDay
    ? ({ dateStyle: 'medium' } as const)
    : ({ month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' } as const);
  const format = dateFormat(form);
  return isDay ? format.format(from) : format.formatRange(from, until);
}
