import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { DeliveryState } from '../../session/shapes.js';

type Query = NonNullable<OperationTypes['listDeliveries']['input']['query']>;

const HOUR = 3_600_000;

/** How far back one looks. */
export const PERIODS = { '1h': HOUR, '24h': 24 * HOUR, '7d': 7 * 24 * HOUR, '30d': 30 * 24 * HOUR } as const;
type Period = keyof typeof PERIODS;

export const STATES: readonly DeliveryState[] = ['succeeded', 'due', 'exhausted', 'held', 'discarded'];

/** Filters of the list, by their names in the URL. */
export const FILTERS = [
  'state',
  'type',
  'listenerId',
  'eventId',
  'status',
  'error',
  'owner',
  'period',
  'since',
  'until',
] as const;
export type Filters = Partial<Readonly<Record<(typeof FILTERS)[number], string>>>;

export function filtersOf(query: URLSearchParams): Filters {
  const given = FILTERS.map((name) => [name, query.get(name)] as const).filter(([, value]) => Boolean(value));
  return Object.fromEntries(given) as Filters;
}

/** @param now the period ends here */
export function queryOf({ period, ...filters }: Filters, now = Date.now()): Query {
  const length = PERIODS[period as Period];
  const since = length === undefined ? {} : { since: new Date(now - length) };
  return { ...(filters as Query), ...since };
}
