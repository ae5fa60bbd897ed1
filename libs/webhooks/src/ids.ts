import { randomBytes } from 'node:crypto';
import { v7 } from 'uuid';
import { tupleHex } from './hash.js';

/**
 * A new id: a prefix and a UUIDv7, which sorts by time (RFC 9562). Ids of transactions are internal.
 *
 * @param at the time in the id, in ms since 1970. The id of an event has the time of its row, so that a partition can be found by the id
 */
export function newId(prefix: 'evt' | 'lst' | 'ses' | 'tsk' | 'prc' | 'txn', at?: number): string {
  return `${prefix}_${at === undefined ? v7() : v7({ msecs: at })}`;
}

/** A fencing token: short, because each lease writes it. */
export function newLease(): string {
  return randomBytes(9).toString('base64url');
}

/**
 * The id of a delivery: a UUIDv7 with the time of its event, and a hash of event and listener in place of random bits. It is known before
 * the delivery has a row, and is the same when an event is routed again after a crash.
 */
export function deliveryId(event: { readonly id: string; readonly createdAt: unknown }, listenerId: string): string {
  const time = Number(event.createdAt).toString(16).padStart(12, '0');
  const hash = tupleHex('delivery', event.id, listenerId);
  const variant = VARIANTS[Number.parseInt(hash.charAt(3), 16) % VARIANTS.length];
  return `dlv_${time.slice(0, 8)}-${time.slice(8)}-7${hash.slice(0, 3)}-${variant}${hash.slice(4, 7)}-${hash.slice(7, 19)}`;
}

const VARIANTS = '89ab';
