import type { INestApplicationContext } from '@nestjs/common';
import type { DispatcherService, RoundResult } from '../dispatcher/dispatcher.service.js';
import { getDispatcherToken } from '../tokens.js';

/**
 * Sends everything that is due now, and waits for the outcomes. A test calls it after its writes, before it checks the receiver.
 * Retries that are due later are not sent: move the clock first.
 *
 * @param instance name of the data source, unless it is the default data source
 * @example
 * await orders.save({ status: 'paid' });
 * await drain(app);
 * await expectDelivered(receiver, { type: 'order.created' });
 */
export function drain(app: INestApplicationContext, instance?: string): Promise<RoundResult> {
  return app.get<DispatcherService>(getDispatcherToken(instance), { strict: false }).drain();
}
