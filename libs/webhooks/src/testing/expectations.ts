import { AssertionError } from 'node:assert';
import { isDeepStrictEqual } from 'node:util';

import { describeRequests, type ReceivedRequest, typeOf, type WebhookReceiver } from './webhook-receiver.js';

/** What {@link expectDelivered} looks for. */
export interface ExpectedDelivery {
  /** The event type, such as `order.updated`. */
  type: string;
  /** Fields of the payload's `data` that must be there with exactly these values; others may be there too. */
  data?: Readonly<Record<string, unknown>>;
  /** The exact number of such requests that the receiver accepted (2xx). Refused requests do not count. @defaultValue 1 */
  count?: number;
  /** How long to wait for them. @defaultValue 5000 */
  timeoutMs?: number;
}

/**
 * Waits until `count` requests with this type (and data) have been accepted, and fails if there are more by then. To know that
 * none comes later, let the dispatcher finish first (`drain`).
 *
 * @returns those requests
 * @throws AssertionError naming what did arrive
 */
export async function expectDelivered(
  receiver: WebhookReceiver,
  expected: ExpectedDelivery,
): Promise<ReceivedRequest[]> {
  const { count = 1, timeoutMs } = expected;
  const matching = (): ReceivedRequest[] => receiver.requests.filter((request) => matches(request, expected));
  if (count > 0) {
    try {
      await receiver.waitForRequest(() => matching().length >= count, timeoutMs === undefined ? {} : { timeoutMs });
    } catch (error) {
      if (!(error instanceof AssertionError)) throw error;
      throw mismatch(receiver, expected, count, matching().length);
    }
  }
  const found = matching();
  if (found.length !== count) throw mismatch(receiver, expected, count, found.length);
  return found;
}

/**
 * Fails if anything has arrived. It looks once and waits for nothing: let the dispatcher finish first (`drain`).
 *
 * @throws AssertionError naming what did arrive
 */
export function expectNothingSent(receiver: WebhookReceiver): void {
  if (receiver.requests.length === 0) return;
  throw new AssertionError({
    message: `Expected nothing to be sent. ${describeRequests(receiver.requests)}`,
    actual: receiver.requests.length,
    expected: 0,
    stackStartFn: expectNothingSent,
  });
}

function matches(request: ReceivedRequest, expected: ExpectedDelivery): boolean {
  if (!isAccepted(request) || typeOf(request) !== expected.type) return false;
  if (expected.data === undefined) return true;
  const data: unknown = (request.json as { data?: unknown }).data;
  if (typeof data !== 'object' || data === null) return false;
  return Object.entries(expected.data).every(
    ([key, value]) => Object.hasOwn(data, key) && isDeepStrictEqual((data as Record<string, unknown>)[key], value),
  );
}

function isAccepted({ status }: ReceivedRequest): boolean {
  return status !== null && status >= 200 && status < 300;
}

function mismatch(receiver: WebhookReceiver, expected: ExpectedDelivery, count: number, found: number): AssertionError {
  const withData = expected.data === undefined ? '' : ` with data ${JSON.stringify(expected.data)}`;
  return new AssertionError({
    message: `Expected ${count} × ${expected.type}${withData}, found ${found}. ${describeRequests(receiver.requests)}`,
    actual: found,
    expected: count,
  });
}
