import { InvalidArgumentError } from 'commander';
import { durationMs } from './durations.js';

/** `24h` ago, or a time in ISO 8601. */
export function pastTime(text: string): Date {
  const ago = durationMs(text);
  const time = ago === undefined ? new Date(text) : new Date(Date.now() - ago);
  // `new Date('5')` would be a day in 2001.
  if (Number.isNaN(time.getTime()) || (ago === undefined && !/^\d{4}-\d\d-\d\d/.test(text))) {
    throw new InvalidArgumentError(
      'Allowed: how long ago, such as 90s, 15m, 24h or 7d, or a time such as 2026-11-30T12:00:00Z.',
    );
  }
  return time;
}

/** Milliseconds of `250ms`, `90s`, `15m`, `24h` or `7d`. */
export function duration(text: string): number {
  const ms = durationMs(text);
  if (ms === undefined) throw new InvalidArgumentError('Allowed: a duration such as 250ms, 90s, 15m, 24h or 7d.');
  return ms;
}

/** A parser for whole numbers of a range. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`Allowed: a whole number from ${least} to ${most}.`);
  };
}

/** `20%` as 0.2. */
export function share(text: string): number {
  const [, number] = /^(\d+(?:\.\d+)?)%$/.exec(text) ?? [];
  if (number === undefined || Number(number) > 100) throw new InvalidArgumentError('Allowed: a share such as 20%.');
  return Number(number) / 100;
}

/** Names that are separated by commas. */
export function names(text: string): string[] {
  const list = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (!list.length) throw new InvalidArgumentError('Allowed: names that are separated by commas.');
  return list;
}

/** Collects the values of an option that may be given several times. */
export function several(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text];
}

/** Collects event types with a version, such as `order.updated=1`. */
export function typeVersion(text: string, before: Readonly<Record<string, number>> = {}): Record<string, number> {
  const [, type, version] = /^([^=]+)=(\d+)$/.exec(text) ?? [];
  if (type === undefined)
    throw new InvalidArgumentError("Allowed: an event type and a version, such as 'order.updated=1'.");
  return { ...before, [type]: Number(version) };
}
