import type { INestApplicationContext } from '@nestjs/common';
import type { DispatcherService, RoundResult } from '../dispatcher/dispatcher.service.js';
import { getDispatcherToken } from '../tokens.js';

/**
 * Sends everything that is due now and waits for the outcomes: what a test calls between writing and looking at its
 * receiver. Retries that are due later wait until the clock is moved.
 *
 * @param instance name of the data source, when it is not the default one
 * @example
 * await orders.save({ status: 'paid' });
 * await drain(app);
 * await expectDelivered(receiver, { type: 'order.created' });
 */
export function drain(app: INestApplicationContext, instance?: string): Promise<RoundResult> {
  return app.get<DispatcherService>(getDispatcherToken(instance), { strict: false }).drain();
}
