import { useEffect, useSyncExternalStore } from 'react';
import { api } from './api.js';
import type { Statistics } from './shapes.js';

/** Small charts of lists: one request for each row that stays in view. */
const DAY = 86_400_000;
const FRESH_MS = 300_000;
/** A row that is scrolled past asks for nothing. */
const IN_VIEW_MS = 300;
const AT_ONCE = 3;

interface Entry {
  readonly statistics: Statistics | null;
  readonly readAt: number;
}

const entries = new Map<string, Entry>();
const asked = new Set<string>();
const queue: string[] = [];
const watchers = new Set<() => void>();
let running = 0;

/** Attempts to a listener in the last 24 hours; `undefined` while they load, `null` if they could not be read. */
export function useLastDay(id: string): Statistics | null | undefined {
  // Of this listener alone: an answer draws its row again, and no other.
  const entry = useSyncExternalStore(watch, () => entries.get(id));
  useEffect(() => {
    if (entry !== undefined && Date.now() - entry.readAt < FRESH_MS) return undefined;
    const timer = setTimeout(() => {
      if (asked.has(id)) return;
      asked.add(id);
      queue.push(id);
      void next();
    }, IN_VIEW_MS);
    return () => clearTimeout(timer);
  }, [id, entry]);
  return entry?.statistics;
}

/** Another session may see other things. */
export function forgetLastDays(): void {
  entries.clear();
  queue.length = 0;
}

async function next(): Promise<void> {
  if (running >= AT_ONCE) return;
  const id = queue.pop();
  if (id === undefined) return;
  running += 1;
  let statistics: Statistics | null = null;
  try {
    const now = Date.now();
    statistics = await api.getListenerStatistics({
      id,
      query: { since: new Date(now - DAY), until: new Date(now), step: '1h' },
    });
  } catch {
    // The row shows no chart.
  }
  running -= 1;
  asked.delete(id);
  entries.set(id, { statistics, readAt: Date.now() });
  for (const notify of watchers) notify();
  void next();
}

function watch(notify: () => void): () => void {
  watchers.add(notify);
  return () => watchers.delete(notify);
}
