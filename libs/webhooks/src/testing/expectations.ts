import { AssertionError } from 'node:assert';
import { isDeepStrictEqual } from 'node:util';

import { describeRequests, type ReceivedRequest, typeOf, type TestReceiver } from './test-receiver.js';

/** The requests that {@link expectDelivered} counts. */
export interface ExpectedDelivery {
  /** The event type, such as `order.updated`. */
  type: string;
  /** Fields and values that the `data` of the payload must have. `data` may also have other fields. */
  data?: Readonly<Record<string, unknown>>;
  /**
   * The exact number of matching requests that the receiver answered with 2xx. Requests with other answers do not count.
   * @defaultValue 1
   */
  count?: number;
  /** How long to wait for the requests, in milliseconds. @defaultValue 5000 */
  timeoutMs?: number;
}

/**
 * Waits until the receiver has accepted `count` requests with this type (and data). Fails if the receiver has accepted more such
 * requests. To be sure that no request arrives later, call `drain()` first.
 *
 * @returns the matching requests
 * @throws AssertionError with a list of the requests that arrived
 */
export async function expectDelivered(receiver: TestReceiver, expected: ExpectedDelivery): Promise<ReceivedRequest[]> {
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
 * Fails if a request has arrived. The function checks once and does not wait, so call `drain()` first.
 *
 * @throws AssertionError with a list of the requests that arrived
 */
export function expectNothingSent(receiver: TestReceiver): void {
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

function mismatch(receiver: TestReceiver, expected: ExpectedDelivery, count: number, found: number): AssertionError {
  const withData = expected.data === undefined ? '' : ` with data ${JSON.stringify(expected.data)}`;
  return new AssertionError({
    message: `Expected ${count} × ${expected.type}${withData}, found ${found}. ${describeRequests(receiver.requests)}`,
    actual: found,
    expected: count,
  });
}
