import { isDeepStrictEqual } from 'node:util';
import type { Delivery } from 'nestjs-entity-webhooks';
import type { Received } from '../receiver/receiver.service.js';

/** A webhook that a step of the tour should cause. */
export interface Expected {
  readonly endpoint: string;
  readonly type: string;
  /** The number of the attempt that the receiver accepts. */
  readonly attempt: number;
  /** Values that `data` must contain. */
  readonly data: Readonly<Record<string, unknown>>;
}

/**
 * Describes each problem of the tour in one line. The list is empty if exactly the expected webhooks arrived, each webhook was
 * verified, and no webhook arrived twice.
 *
 * @param log all deliveries, from the sender's log
 */
export function judgeTour(
  expected: readonly Expected[],
  received: readonly Received[],
  log: readonly Pick<Delivery, 'type' | 'state' | 'attemptCount' | 'lastErrorCode' | 'lastStatus'>[],
): string[] {
  const { missing, unexpected } = compare(expected, received);
  const forged = received.filter(({ verdict }) => verdict === 'forged');
  return [
    ...missing.map(
      (one) => `missing: ${one.type} -> ${one.endpoint}, at attempt ${one.attempt}, with ${JSON.stringify(one.data)}`,
    ),
    ...unexpected.map(
      (one) =>
        `unexpected: ${one.body?.type} -> ${one.endpoint}, at attempt ${one.attempt}, with ${JSON.stringify(one.body?.data)}`,
    ),
    ...forged.map((one) => `forged: request ${one.id} -> ${one.endpoint}`),
    ...log.filter(({ state }) => state !== 'succeeded').map(unfinished),
  ];
}

/** Pairs each expected webhook with an accepted webhook, and returns the webhooks without a partner. */
export function compare(expected: readonly Expected[], received: readonly Received[]) {
  const unexpected = received.filter(({ verdict }) => verdict === 'verified');
  const missing = expected.filter((one) => {
    const at = unexpected.findIndex((other) => fits(one, other));
    if (at >= 0) unexpected.splice(at, 1);
    return at < 0;
  });
  return { missing, unexpected };
}

function fits(expected: Expected, { endpoint, attempt, body }: Received): boolean {
  return (
    endpoint === expected.endpoint &&
    attempt === expected.attempt &&
    body?.type === expected.type &&
    Object.entries(expected.data).every(([key, value]) => isDeepStrictEqual(body.data[key], value))
  );
}

function unfinished({
  type,
  state,
  attemptCount,
  lastStatus,
  lastErrorCode,
}: Parameters<typeof judgeTour>[2][number]): string {
  const tried =
    attemptCount === 0
      ? 'not tried yet'
      : `after attempt ${attemptCount}, which ended with ${lastStatus ?? lastErrorCode}`;
  return `not delivered: ${type} is ${state}, ${tried}`;
}
