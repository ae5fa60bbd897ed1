import { v7 } from 'uuid';

/** The public id of an event, a delivery or a listener: a prefix and a UUIDv7, which sorts by time (RFC 9562). */
export function newId(prefix: 'evt' | 'dlv' | 'lst' | 'lease'): string {
  return `${prefix}_${v7()}`;
}
