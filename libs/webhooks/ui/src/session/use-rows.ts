import { useEffect, useMemo, useRef, useSyncExternalStore } from 'react';

/** A page of a list, as the API answers. */
interface RowsPage<Row> {
  readonly items: readonly Row[];
  /** The cursor of the next page; `null` after the last row. */
  readonly next: string | null;
}

/** Reads a page: the first one, or the one after a cursor. */
export type ReadPage<Row> = (cursor: string | undefined, signal: AbortSignal) => Promise<RowsPage<Row>>;

interface RowsState<Row> {
  readonly rows: readonly Row[];
  readonly next: string | null;
  /** Newer rows that are known, but not shown yet. */
  readonly fresh: readonly Row[];
  /** Whether the first page is on its way. */
  readonly isLoading: boolean;
  /** Why the first page is not there. */
  readonly error: unknown;
  readonly isLoadingMore: boolean;
  /** Why the next page is not there. The rows before it stay. */
  readonly moreError: unknown;
}

const START = {
  ...{ rows: [], next: null, fresh: [], isLoading: true, error: undefined },
  ...{ isLoadingMore: false, moreError: undefined },
} as const satisfies RowsState<never>;

/** A list of the API, of which the page reads as much as somebody scrolls to. */
export interface Rows<Row> extends RowsState<Row> {
  /** Reads the next page. After a failure it does nothing, because a table asks again with every turn of the wheel. */
  readonly loadMore: () => void;
  /** Reads the page again whose reading failed, and goes on from there. */
  readonly retryMore: () => void;
  /** Reads everything again. The rows stay until the answer is there. */
  readonly reload: () => void;
  /** Reads the first page again, as long as the reader has not scrolled to the end of it. A failure changes nothing. */
  readonly refresh: () => void;
  /** Reads the first page again. Rows that are shown take their new state, and new rows wait in `fresh`. A failure changes nothing. */
  readonly follow: (idOf: (row: Row) => string) => void;
  /** Puts the newer rows on top. */
  readonly showFresh: () => void;
  /** Changes rows that are shown, where they are. */
  readonly change: (changed: (row: Row) => Row) => void;
}

interface RowsOptions {
  /** While one types a search, the rows that it found so far stay until the next ones are there. */
  readonly keepsRows?: boolean;
}

/** @param key names the list: another key is another list */
export function useRows<Row>(
  key: string,
  read: ReadPage<Row>,
  { keepsRows: isKept = false }: RowsOptions = {},
): Rows<Row> {
  const last = useRef<RowsState<Row>>(START);
  const list = useMemo(() => new RowList(read, isKept ? { ...last.current, isLoading: true } : START), [key]);
  const state = useSyncExternalStore(list.subscribe, list.current);
  last.current = state;
  useEffect(() => list.open(), [list]);
  return { ...state, ...list.actions };
}

/** The rows, and which page is asked for. Only the newest question for a first page counts. */
class RowList<Row> {
  readonly actions = {
    loadMore: () => this.loadMore(),
    retryMore: () => void this.readMore(),
    reload: () => {
      this.close();
      this.open();
    },
    refresh: () => this.refresh(),
    follow: (idOf: (row: Row) => string) => this.follow(idOf),
    showFresh: () => this.set({ rows: [...this.state.fresh, ...this.state.rows], fresh: [] }),
    change: (changed: (row: Row) => Row) => this.set({ rows: this.state.rows.map(changed) }),
  };
  private pages = 0;
  private abort = new AbortController();
  private readonly watchers = new Set<() => void>();

  constructor(
    private readonly read: ReadPage<Row>,
    private state: RowsState<Row>,
  ) {}

  readonly current = (): RowsState<Row> => this.state;

  readonly subscribe = (notify: () => void): (() => void) => {
    this.watchers.add(notify);
    return () => this.watchers.delete(notify);
  };

  /** @returns a function that forgets what is asked for */
  readonly open = (): (() => void) => {
    this.abort = new AbortController();
    this.set({ isLoading: true, error: undefined });
    void this.readFirst(this.abort.signal);
    return () => this.close();
  };

  private close(): void {
    this.abort.abort();
  }

  private async readFirst(signal: AbortSignal): Promise<void> {
    try {
      const page = await this.read(undefined, signal);
      if (!signal.aborted) this.start(page);
    } catch (error) {
      if (!signal.aborted) this.set({ ...START, isLoading: false, error });
    }
  }

  private start({ items, next }: RowsPage<Row>): void {
    this.pages = 1;
    this.set({ ...START, rows: items, next, isLoading: false });
  }

  private loadMore(): void {
    if (this.state.moreError === undefined) void this.readMore();
  }

  private async readMore(): Promise<void> {
    const { next, isLoading, isLoadingMore } = this.state;
    if (next === null || isLoading || isLoadingMore) return;
    const { signal } = this.abort;
    this.set({ isLoadingMore: true });
    try {
      const page = await this.read(next, signal);
      if (signal.aborted) return;
      this.pages += 1;
      const rows = [...this.state.rows, ...page.items];
      this.set({ rows, next: page.next, isLoadingMore: false, moreError: undefined });
    } catch (moreError) {
      if (!signal.aborted) this.set({ isLoadingMore: false, moreError });
    }
  }

  private refresh(): void {
    void this.again((page, asked) => {
      const { rows, isLoadingMore, moreError } = this.state;
      // The next page begins where these rows end.
      const isAlone = this.pages === 1 && !isLoadingMore && moreError === undefined;
      if (isAlone && rows === asked) this.start(page);
    });
  }

  private follow(idOf: (row: Row) => string): void {
    void this.again(({ items }) => this.set(merged(this.state.rows, items, idOf)));
  }

  /** Reads the first page while its rows are shown. */
  private async again(use: (page: RowsPage<Row>, asked: readonly Row[]) => void): Promise<void> {
    const { rows, isLoading } = this.state;
    if (isLoading) return;
    const { signal } = this.abort;
    try {
      const page = await this.read(undefined, signal);
      if (!signal.aborted) use(page, rows);
    } catch {
      // What is shown stays readable.
    }
  }

  private set(change: Partial<RowsState<Row>>): void {
    this.state = { ...this.state, ...change };
    for (const notify of this.watchers) notify();
  }
}

/** In one pass, because the list may have 100,000 rows. */
function merged<Row>(
  shown: readonly Row[],
  newest: readonly Row[],
  idOf: (row: Row) => string,
): Pick<RowsState<Row>, 'rows' | 'fresh'> {
  const unseen = new Map(newest.map((one) => [idOf(one), one]));
  const rows = shown.map((row) => {
    const id = idOf(row);
    const same = unseen.get(id);
    if (same !== undefined) unseen.delete(id);
    return same ?? row;
  });
  return { rows, fresh: [...unseen.values()] };
}
