import { whole } from '../../words/numbers.js';

/** More deliveries than this want a text typed first. */
const MANY = 100;

/** The host of a URL, as people type it to confirm. */
export function hostOf(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

/**
 * What must be typed before so many deliveries change: the host of their listener. Deliveries of several listeners have no host in common, so
 * their number is typed.
 *
 * @returns properties of `Confirm`
 */
export function typedFor(count: number, url: string | undefined): { readonly typed?: string } {
  if (count <= MANY) return {};
  return { typed: url === undefined ? whole(count) : hostOf(url) };
}
