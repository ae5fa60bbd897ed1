import { api } from '../../session/api.js';
import type { Delivery } from '../../session/shapes.js';
import { useEvery } from '../../session/use-loaded.js';
import { useRows, type Rows } from '../../session/use-rows.js';
import { queryOf, type Filters } from './filters.js';

const PAGE = 100;
/** Who scrolls wants many. */
const NEXT_PAGE = 200;
const POLL_MS = 10_000;

/** The list of deliveries. New rows are counted and never pushed under the reader; rows that are shown follow their state. */
export function useDeliveries(filters: Filters, isLive: boolean): Rows<Delivery> {
  const list = useRows(JSON.stringify(filters), (cursor, signal) => {
    const query = { ...queryOf(filters), limit: PAGE, ...(cursor !== undefined && { cursor, limit: NEXT_PAGE }) };
    return api.listDeliveries({ query }, { signal });
  });
  useEvery(isLive ? POLL_MS : 0, () => list.follow(idOf));
  return list;
}

export function idOf({ id }: Delivery): string {
  return id;
}
