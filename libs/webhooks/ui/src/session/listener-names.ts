import type { InJson } from 'nestjs-entity-webhooks/client';
import { useEffect, useSyncExternalStore } from 'react';
import { api } from './api.js';
import type { Listener } from './shapes.js';

/** What lists show of a listener; `null` for one that was removed, or that is not visible. */
export type ListenerName = Pick<InJson<Listener>, 'id' | 'url' | 'name'> | null;

// Deliveries name listeners by their id only. Each listener is read once, however many rows name it.
let names: ReadonlyMap<string, ListenerName> = new Map();
const asked = new Set<string>();
const watchers = new Set<() => void>();

export function rememberListeners(listeners: readonly Exclude<ListenerName, null>[]): void {
  if (listeners.length === 0) return;
  put(listeners.map((one) => [one.id, one]));
}

/** Reads the newest listeners in one request, before rows ask for them one by one. */
export async function preloadListeners(): Promise<void> {
  try {
    const { items } = await api.listListeners({ query: { limit: 200 } });
    for (const { id } of items) asked.add(id);
    rememberListeners(items);
  } catch {
    // Rows then show the id.
  }
}

export function useListenerName(id: string): ListenerName | undefined {
  // Of this listener alone: the name of another one does not draw the row again.
  const name = useSyncExternalStore(watch, () => names.get(id));
  useEffect(() => {
    if (id === '' || names.has(id) || asked.has(id)) return;
    asked.add(id);
    api.getListener({ id }).then(
      (listener) => put([[id, listener]]),
      () => put([[id, null]]),
    );
  }, [id]);
  return name;
}

export function forgetListeners(): void {
  names = new Map();
  asked.clear();
}

function put(entries: readonly (readonly [string, ListenerName])[]): void {
  names = new Map([...names, ...entries]);
  for (const notify of watchers) notify();
}

function watch(notify: () => void): () => void {
  watchers.add(notify);
  return () => watchers.delete(notify);
}
