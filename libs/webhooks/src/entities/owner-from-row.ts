import type { ObjectLiteral } from 'typeorm';

const OWNER_FROM_ROW = Symbol('nestjs-entity-webhooks:pure');

/**
 * Promises that an `owner` function reads only the row it gets: no service, no request, no clock, no other row.
 *
 * In trigger mode the function runs after the commit, perhaps in another process. Anything but the row may have changed by then, and the
 * event could reach the wrong owner. Marks the function in place, and returns it.
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
