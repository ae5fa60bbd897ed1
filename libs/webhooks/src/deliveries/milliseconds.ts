import { BadRequestError } from '../errors.js';
import { invalidValue } from '../show.js';

/** A time of a filter, in ms since 1970. @throws BadRequestError `INVALID_TIME` */
export function milliseconds(date: Date, key: string): number {
  const ms = date instanceof Date ? date.getTime() : Number.NaN;
  // In JSON an invalid Date is null, so the message would show `null` as the value.
  const shown = date instanceof Date ? String(date) : date;
  if (Number.isNaN(ms)) throw new BadRequestError('INVALID_TIME', invalidValue(key, shown, 'a valid Date'));
  return ms;
}
