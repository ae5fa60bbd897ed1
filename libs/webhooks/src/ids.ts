import { v7 } from 'uuid';

/** A new id: a prefix and a UUIDv7, which sorts by time (RFC 9562). Ids of leases and transactions are internal. */
export function newId(prefix: 'evt' | 'dlv' | 'lst' | 'lease' | 'txn'): string {
  return `${prefix}_${v7()}`;
}
