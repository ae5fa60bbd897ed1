import type { INestApplicationContext } from '@nestjs/common';
import type { DispatcherService, RoundResult } from '../dispatcher/dispatcher.service.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';

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
export function drain(app: INestApplicationContext, instance: string = DEFAULT_INSTANCE): Promise<RoundResult> {
  // By way of the runtime: the token of the dispatcher is its class, which would load the whole core into every test of a receiver.
  const { dispatcher } = app.get<{ dispatcher: DispatcherService }>(runtimeToken(instance), { strict: false });
  return dispatcher.drain();
}
