import type { INestApplicationContext } from '@nestjs/common';
import type { DispatcherService, RoundResult } from '../dispatcher/dispatcher.service.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';

/**
 * Sends everything that is due now, and waits for the outcomes. Call `drain()` in a test after the writes and before you check
 * the receiver. Retries that are due later are not sent. To send them, first move the clock.
 *
 * @param instance name of the data source, unless it is the default data source
 * @example
 * await orders.save({ status: 'paid' });
 * await drain(app);
 * await expectDelivered(receiver, { type: 'order.created' });
 */
export function drain(app: INestApplicationContext, instance: string = DEFAULT_INSTANCE): Promise<RoundResult> {
  // Find the dispatcher through the runtime. The token of the dispatcher is its class. An import of this class would load the whole core
  // into every test of a receiver.
  const { dispatcher } = app.get<{ dispatcher: DispatcherService }>(runtimeToken(instance), { strict: false });
  return dispatcher.drain();
}
