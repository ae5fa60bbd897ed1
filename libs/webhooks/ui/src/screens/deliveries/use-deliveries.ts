import { useCallback, useEffect, useRef, useState } from 'react';
import { api } from '../../session/api.js';
import type { Delivery } from '../../session/shapes.js';
import { useEvery } from '../../session/use-loaded.js';
import { queryOf, type Filters } from './filters.js';

const PAGE = 100;
/** Who scrolls wants many. */
const NEXT_PAGE = 200;
const POLL_MS = 10_000;

interface State {
  readonly rows: readonly Delivery[];
  readonly next: string | null;
  /** Newer rows that are known, but not shown yet. */
  readonly fresh: readonly Delivery[];
  readonly error: unknown;
  readonly isLoading: boolean;
}

const EMPTY: State = { rows: [], next: null, fresh: [], error: undefined, isLoading: true };

export interface DeliveryList extends State {
  readonly loadMore: () => void;
  readonly reload: () => void;
  /** Puts the newer rows on top. */
  readonly showFresh: () => void;
}

/** The list of deliveries. New rows are counted and never pushed under the reader; rows that are shown follow their state. */
export function useDeliveries(filters: Filters, isLive: boolean): DeliveryList {
  const key = JSON.stringify(filters);
  const [state, setState] = useState<State>(EMPTY);
  const [round, setRound] = useState(0);
  const isBusy = useRef(false);
  useEffect(() => {
    const abort = new AbortController();
    setState(EMPTY);
    readPage(filters, undefined, abort.signal).then(
      ({ items, next }) => setState({ ...EMPTY, rows: items, next, isLoading: false }),
      (error: unknown) => !abort.signal.aborted && setState({ ...EMPTY, error, isLoading: false }),
    );
    return () => abort.abort();
    // The key stands for the filters.
  }, [key, round]);
  const { next } = state;
  const loadMore = useCallback(() => {
    if (next === null || isBusy.current) return;
    isBusy.current = true;
    readPage(filters, next)
      .then(
        (page) => setState((before) => ({ ...before, rows: [...before.rows, ...page.items], next: page.next })),
        (error: unknown) => setState((before) => ({ ...before, error })),
      )
      .finally(() => {
        isBusy.current = false;
      });
    // The key stands for the filters.
  }, [key, next]);
  useEvery(isLive ? POLL_MS : 0, () => {
    readPage(filters).then(
      ({ items }) => setState((before) => (before.isLoading ? before : merged(before, items))),
      // The next poll may succeed, and the rows stay readable.
      () => undefined,
    );
  });
  const showFresh = () => setState((before) => ({ ...before, rows: [...before.fresh, ...before.rows], fresh: [] }));
  return { ...state, loadMore, showFresh, reload: () => setRound((before) => before + 1) };
}

function readPage(filters: Filters, cursor?: string, signal?: AbortSignal) {
  const query = { ...queryOf(filters), limit: PAGE, ...(cursor !== undefined && { cursor, limit: NEXT_PAGE }) };
  return api.listDeliveries({ query }, signal && { signal });
}

/** In one pass, because the list may have 100,000 rows. */
function merged(before: State, newest: readonly Delivery[]): State {
  const unseen = new Map(newest.map((one) => [one.id, one]));
  const rows = before.rows.map((row) => {
    const same = unseen.get(row.id);
    if (same !== undefined) unseen.delete(row.id);
    return same ?? row;
  });
  return { ...before, rows, fresh: [...unseen.values()] };
}
