import type { WebhookClock } from '../clock.js';
import { SECOND } from '../time.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { StreamChange, StreamSource } from './stream-source.js';

/** The interval between overviews. Each overview takes several queries for each owner that reads a stream. */
const EVERY_MS = 10 * SECOND;

/** The overview, every 10 seconds. A position is a time, in steps of 10 seconds. */
export function overviews({ clock, system }: Pick<WebhooksRuntime, 'clock' | 'system'>): StreamSource {
  return overviewsOf(clock, (owner) => (owner === null ? system : system.forOwner(owner)).overview());
}

/** @param overviewOf reads the overview of an owner; `null`: of an operator */
export function overviewsOf(clock: WebhookClock, overviewOf: (owner: string | null) => Promise<object>): StreamSource {
  return {
    key: 'o',
    event: 'overview',
    capability: 'stats:read',
    // Only the newest overview matters, so no older one is read again.
    overlap: [0, 0],
    beginsBefore: 0,
    step: Infinity,
    farthest: Infinity,
    last: () => Promise.resolve(Math.floor(clock.now() / EVERY_MS) * EVERY_MS),
    async read(scopes, { upTo }) {
      const owners = new Set(scopes.filter(({ listenerId }) => listenerId === null).map(({ owner }) => owner));
      const changes: StreamChange[] = [];
      for (const owner of owners) {
        const overview = await overviewOf(owner);
        changes.push({
          id: `overview.${upTo}.${owner ?? ''}`,
          position: upTo,
          at: clock.now(),
          owner,
          audience: owner === null ? 'operator' : 'owner',
          listenerId: null,
          type: null,
          dataFor: () => ({ overview }),
        });
      }
      return changes;
    },
  };
}
