import type { INestApplicationContext } from '@nestjs/common';
import type { DispatcherService, RoundResult } from '../dispatcher/dispatcher.service.js';
import { DEFAULT_INSTANCE, runtimeToken } from '../instance.js';

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
export function drain(app: INestApplicationContext, instance: string = DEFAULT_INSTANCE): Promise<RoundResult> {
  // By way of the runtime: the token of the dispatcher is its class, which would load the whole core into every test of a receiver.
  const { dispatcher } = app.get<{ dispatcher: DispatcherService }>(runtimeToken(instance), { strict: false });
  return dispatcher.drain();
}
