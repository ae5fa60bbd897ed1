import type { ObjectLiteral } from 'typeorm';

const PURE = Symbol('nestjs-entity-webhooks:pure');

/**
 * Promises that an `owner` function looks at nothing but the row it is given: no service, no request, no clock, no other row.
 *
 * In trigger mode the function is called after the commit, maybe by another process, so what else it looked at would be of another
 * moment, and the event might reach the wrong owner. Marks the function itself, and gives it back.
 *
 * @example
 * \@Webhook({ capture: 'trigger', owner: pure((order: Order) => order.customerId ?? order.guestId) })
 */
export function pure<F extends (entity: never) => string | number | bigint | null | undefined>(owner: F): F {
  Object.defineProperty(owner, PURE, { value: true, configurable: true });
  return owner;
}

/** Whether a function was marked with {@link pure}. */
export function isPure(owner: (entity: ObjectLiteral) => unknown): boolean {
  return PURE in owner;
}
