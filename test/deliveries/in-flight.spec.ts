import { expect, it } from 'vitest';
import { InFlightDeliveries } from '../../libs/webhooks/src/deliveries/in-flight.js';
import type { ClaimedDelivery } from '../../libs/webhooks/src/store/queue/claimed-delivery.js';

it('a delivery stays in flight under its next lease when its attempt under the lost lease ends', () => {
  const [lost, next] = ['first', 'second'].map(
    (leaseToken) => ({ id: 'dlv_1', seq: null, leaseToken }) as ClaimedDelivery,
  );
  const inFlight = new InFlightDeliveries();
  inFlight.add([lost as ClaimedDelivery]);
  inFlight.add([next as ClaimedDelivery]);
  inFlight.delete(lost as ClaimedDelivery);
  expect(inFlight.get('dlv_1')).toBe(next);
  inFlight.delete(next as ClaimedDelivery);
  expect(inFlight.get('dlv_1')).toBeUndefined();
});
