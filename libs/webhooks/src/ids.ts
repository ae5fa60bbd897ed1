import { v7 } from 'uuid';

/** The public id of an event, a delivery or a listener, or a name inside: a prefix and a UUIDv7, which sorts by time (RFC 9562). */
export function newId(prefix: 'evt' | 'dlv' | 'lst' | 'lease' | 'txn'): string {
  return `${prefix}_${v7()}`;
}
