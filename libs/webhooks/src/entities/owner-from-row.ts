import type { ObjectLiteral } from 'typeorm';

const OWNER_FROM_ROW = Symbol.for('nestjs-entity-webhooks:owner-from-row');

/**
 * Marks an `owner` function. With this mark you promise that the function reads only the row that it gets. The function must read no
 * service, no request, no clock and no other row.
 *
 * In trigger mode the function runs after the commit, perhaps in another process. By then, everything except the row may have changed. If
 * the function read such changed data, the event could reach the wrong owner. `ownerFromRow()` sets the mark on the function itself, and
 * returns the same function.
 *
 * @example
 * \@Webhook({ capture: 'trigger', owner: ownerFromRow((order: Order) => order.customerId ?? order.guestId) })
 */
export function ownerFromRow<F extends (entity: never) => string | number | bigint | null | undefined>(owner: F): F {
  Object.defineProperty(owner, OWNER_FROM_ROW, { value: true, configurable: true });
  return owner;
}

/** Whether a function was marked with {@link ownerFromRow}. */
export function isOwnerFromRow(owner: (entity: ObjectLiteral) => unknown): boolean {
  return OWNER_FROM_ROW in owner;
}
