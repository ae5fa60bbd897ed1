import { useCallback, useEffect, useRef, useState } from 'react';

/** What a screen knows of what it loads. Old data stays while new data is on its way. */
export interface Loaded<T> {
  readonly data: T | undefined;
  readonly error: unknown;
  readonly isLoading: boolean;
  readonly reload: () => void;
}

interface State<T> {
  readonly key: string;
  readonly data: T | undefined;
  readonly error: unknown;
  readonly isLoading: boolean;
}

/** Answers of this visit, so that going back shows something at once. */
const cache = new Map<string, unknown>();
const MAX_CACHED = 100;

/**
 * Loads something when the key changes, and every `everyMs` while the page is visible.
 *
 * @param key names what is loaded: the same key means the same data
 */
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs = 0): Loaded<T> {
  const [state, setState] = useState<State<T>>(() => initial<T>(key));
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => (before.key === key ? { ...before, isLoading: true } : initial<T>(key)));
    latest.current(abort.signal).then(
      (data) => {
        remember(key, data);
        if (!abort.signal.aborted) setState({ key, data, error: undefined, isLoading: false });
      },
      (error: unknown) => {
        if (!abort.signal.aborted) setState((before) => ({ ...before, error, isLoading: false }));
      },
    );
    return () => abort.abort();
  }, [key, round]);
  const reload = useCallback(() => setRound((before) => before + 1), []);
  useEvery(everyMs, reload);
  // In the render between a new key and its effect the state is still that of the old key.
  const shown = state.key === key ? state : initial<T>(key);
  return { data: shown.data, error: shown.error, isLoading: shown.isLoading, reload };
}

/** Calls a function again and again while the page is visible. */
export function useEvery(everyMs: number, run: () => void): void {
  const latest = useRef(run);
  latest.current = run;
  useEffect(() => {
    if (everyMs === 0) return undefined;
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') latest.current();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}

/** Another session may see other things. */
export function forgetLoaded(): void {
  cache.clear();
}

function initial<T>(key: string): State<T> {
  return { key, data: cache.get(key) as T | undefined, error: undefined, isLoading: true };
}

function remember(key: string, data: unknown): void {
  cache.delete(key);
  cache.set(key, data);
  const [oldest] = cache.keys();
  if (cache.size > MAX_CACHED && oldest !== undefined) cache.delete(oldest);
}
