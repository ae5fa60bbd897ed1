import { useSyncExternalStore } from 'react';

/** A place in the application: the part of the URL after `#`. It reaches no server. */
export interface Place {
  readonly path: string;
  readonly query: URLSearchParams;
}

const HOME = '#/';

function subscribe(notify: () => void): () => void {
  window.addEventListener('hashchange', notify);
  return () => window.removeEventListener('hashchange', notify);
}

export function usePlace(): Place {
  const hash = useSyncExternalStore(subscribe, () => window.location.hash);
  return placeOf(hash);
}

function placeOf(hash: string): Place {
  const [path = '', query = ''] = (hash.startsWith(HOME) ? hash : HOME).slice(1).split('?', 2);
  return { path, query: new URLSearchParams(query) };
}

/** The value of `href` of a place. Empty filters are left out. */
export function href(path: string, query: Readonly<Record<string, string | null | undefined>> = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => Boolean(entry[1]));
  return given.length > 0 ? `#${path}?${new URLSearchParams(given).toString()}` : `#${path}`;
}

export function go(to: string, { replace: isReplaced = false } = {}): void {
  if (isReplaced) {
    window.history.replaceState(window.history.state, '', to);
    window.dispatchEvent(new HashChangeEvent('hashchange'));
  } else {
    window.location.hash = to;
  }
}

/** Whether the page was opened without a place. */
export function isAtStart(): boolean {
  return placeOf(window.location.hash).path === '/';
}

/**
 * Changes filters of the current place. A filter without a value goes.
 *
 * @param at changes nothing if the reader is elsewhere by now: React keeps a screen, and its timers, while the code of the next one loads
 */
export function changeQuery(changes: Readonly<Record<string, string | null>>, at?: string): void {
  const { path, query } = placeOf(window.location.hash);
  if (at !== undefined && at !== path) return;
  go(href(path, { ...Object.fromEntries(query), ...changes }), { replace: true });
}

/** The parameters of a path such as `/deliveries/:id`; `null` if the path is another one. */
export function match(pattern: string, path: string): Readonly<Record<string, string>> | null {
  const names = pattern.split('/');
  const parts = path.replace(/\/$/, '').split('/');
  if (names.length !== parts.length) return null;
  const found: Record<string, string> = {};
  for (const [index, name] of names.entries()) {
    const part = parts[index] as string;
    if (name.startsWith(':')) found[name.slice(1)] = decoded(part);
    else if (name !== part) return null;
  }
  return found;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
