import { positionOfItem, type WebhookPage } from '../store/database/page.js';
import type { ApiAnswer, ApiCall } from './route.js';
import type { Schema } from './schema.js';

type Query = Readonly<Record<string, Schema>>;

export const PAGE: Query = {
  limit: { type: 'integer', minimum: 1, maximum: 200, default: 50, description: 'Items of the page.' },
  cursor: { type: 'string', maxLength: 4_000, description: 'next of the previous page.' },
};

export const OWNER_FILTER: Query = {
  owner: { type: 'string', minLength: 1, maxLength: 255, description: 'Only of this owner. For operators.' },
};

export const SHARD: Query = {
  shard: { type: 'string', minLength: 1, maxLength: 255, description: 'Only this shard. For operators.' },
};

export const PERIOD: Query = {
  since: { type: 'string', format: 'date-time', description: 'At this time or later.' },
  until: { type: 'string', format: 'date-time', description: 'Before this time.' },
};

/** The error for an owner that filters by owner. The owner-bound service decides the error, which is the same for every name. */
export function withoutOwner({ query, principal }: ApiCall): Record<string, unknown> {
  const { owner, ...rest } = query;
  if (owner === undefined || owner === principal.owner) return rest;
  return { ...rest, owner };
}

/** `since` and `until` as times. */
export function withTimes({ since, until, ...rest }: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return {
    ...rest,
    ...(since === undefined ? {} : { since: new Date(since as string) }),
    ...(until === undefined ? {} : { until: new Date(until as string) }),
  };
}

/** The answer of a list. @param toShown the form of an item in the answer */
export function pageAnswer<T extends object>(
  { items, next }: WebhookPage<T>,
  toShown: (item: T) => object = (item) => item,
): ApiAnswer {
  return { body: { items: items.map(toShown), next }, positions: items.map(positionOfItem) };
}
