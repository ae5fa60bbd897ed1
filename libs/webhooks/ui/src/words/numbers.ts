import { numberFormat } from './formats.js';

/** `34,012` */
export function whole(value: number): string {
  return numberFormat({ maximumFractionDigits: 0 }).format(value);
}

/** `34K`: for axes and narrow places. */
export function compact(value: number): string {
  return numberFormat({ notation: 'compact', maximumFractionDigits: 1 }).format(value);
}

/** `23.6`, `0.04`: rates have few digits, and small ones do not become 0. */
export function rate(value: number): string {
  const digits = value === 0 || value >= 100 ? 0 : value >= 1 ? 1 : 2;
  return numberFormat({ maximumFractionDigits: digits }).format(value);
}

/** `99.8 %`. Not rounded up to 100 %: one failure among many stays visible. */
export function share(part: number, all: number): string {
  const exact = Math.floor((part / all) * 10_000) / 10_000;
  const form = { style: 'percent', maximumFractionDigits: exact > 0.99 && exact < 1 ? 2 : 1 } as const;
  return numberFormat(form).format(exact);
}
