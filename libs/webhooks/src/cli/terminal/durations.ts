import { DAY, HOUR, MINUTE, SECOND } from '../../time.js';

const UNITS = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY } as const;

/** `90s`, `15m`, `24h`, `7d` or `250ms` in milliseconds; `undefined` for another text. */
export function durationMs(text: string): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (number === undefined || unit === undefined) return undefined;
  return Number(number) * UNITS[unit as keyof typeof UNITS];
}

/** The largest unit that gives at least 1: 90,000 -> `1.5 min`. */
export function shownDuration(ms: number): string {
  const size = Math.abs(ms);
  if (size < SECOND) return `${Math.round(ms)} ms`;
  const [unit, name] =
    size < MINUTE
      ? ([SECOND, 's'] as const)
      : size < HOUR
        ? ([MINUTE, 'min'] as const)
        : size < 2 * DAY
          ? ([HOUR, 'h'] as const)
          : ([DAY, 'days'] as const);
  return `${Math.round((ms / unit) * 10) / 10} ${name}`;
}
