import { ListenerService, WebhooksService } from 'nestjs-entity-webhooks';
import type { INestApplicationContext } from '@nestjs/common';
import { monotonicMs } from '../measure.js';
import { atRate, type Rate } from './at-rate.js';
import type { Written } from './application.js';

/** The event type that owners publish; applications of the benchmark declare it. */
export const PUBLISHED_TYPE = 'bench.published';

/** Events that one owner publishes at a fixed rate. */
export interface PublishedTraffic extends Rate {
  readonly owner: string;
}

/** Creates listeners of one owner, to `url/0`, `url/1`, …; each receives every event of the owner. */
export async function addListenersOf(
  app: INestApplicationContext,
  { owner, url, count }: { owner: string; url: string; count: number },
): Promise<void> {
  const listeners = app.get(ListenerService);
  for (let n = 0; n < count; n++) await listeners.create({ events: [PUBLISHED_TYPE], url: `${url}/${n}`, owner });
}

/**
 * Publishes at a fixed rate that does not wait for earlier events. @returns each event, as the first listener of the
 * owner receives it @throws the first error of `publish()`
 */
export function publishAt(
  app: INestApplicationContext,
  { owner, perSecond, seconds }: PublishedTraffic,
): Promise<Written[]> {
  const webhooks = app.get(WebhooksService);
  return atRate({ perSecond, seconds }, async (n) => {
    const { id } = await webhooks.publish(PUBLISHED_TYPE, { n }, { owner });
    return { key: `/0 ${id}`, committedAt: monotonicMs() };
  });
}
