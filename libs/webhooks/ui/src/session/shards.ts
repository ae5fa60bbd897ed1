import { useSyncExternalStore } from 'react';

// The shards of an operator: which one the page shows, and which ones did not answer.

interface Shards {
  /** `''`: all of them. */
  readonly chosen: string;
  /** The shards that the last merged answer lacks. */
  readonly missing: readonly string[];
}

/** Names the shards that a merged answer lacks; empty if none is missing. Other answers do not have it. */
const MISSING_HEADER = 'x-webhooks-missing';

let state: Shards = { chosen: '', missing: [] };
const watchers = new Set<() => void>();

export function useShards(): Shards {
  return useSyncExternalStore(watch, () => state);
}

export function chooseShard(chosen: string): void {
  set({ chosen, missing: [] });
}

/** The URL of a request to the shard that the page shows. A request may name another shard. */
export function onChosenShard(url: RequestInfo | URL): RequestInfo | URL {
  if (state.chosen === '' || url instanceof Request) return url;
  const changed = new URL(url);
  if (!changed.searchParams.has('shard')) changed.searchParams.set('shard', state.chosen);
  return changed;
}

/** Remembers which shards an answer lacks. */
export function noteMissing({ headers }: Response): void {
  const names = headers.get(MISSING_HEADER);
  if (names === null) return;
  const missing = names === '' ? [] : names.split(',').map(decodeURIComponent);
  if (missing.join() !== state.missing.join()) set({ ...state, missing });
}

/** A text with the shard of its object, if there are several shards: `lst_1 · eu`. */
export function inShard(text: string, { shard }: { readonly shard?: string | undefined }): string {
  return shard === undefined ? text : `${text} · ${shard}`;
}

function set(changed: Shards): void {
  state = changed;
  for (const notify of watchers) notify();
}

function watch(notify: () => void): () => void {
  watchers.add(notify);
  return () => watchers.delete(notify);
}
