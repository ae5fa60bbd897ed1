import type { IconName } from '../design/icon.js';
import type { Capability, Me } from '../session/session.js';
import type { Key } from '../words/words.js';

/** A screen that the navigation names. */
export interface Entry {
  readonly path: string;
  readonly text: Key;
  readonly icon: IconName;
  /** Pressed after `g`. */
  readonly key: string;
  readonly capability: Capability;
  /** The group of routes that the screen needs. */
  readonly feature?: string;
}

const ENTRIES: readonly Entry[] = [
  { path: '/overview', text: 'overview.title', icon: 'overview', key: 'o', capability: 'stats:read' },
  { path: '/deliveries', text: 'deliveries.title', icon: 'deliveries', key: 'd', capability: 'deliveries:read' },
  { path: '/events', text: 'events.title', icon: 'events', key: 'e', capability: 'payloads:read' },
  { path: '/listeners', text: 'listeners.title', icon: 'listeners', key: 'l', capability: 'listeners:read' },
  { path: '/catalogue', text: 'catalogue.title', icon: 'catalogue', key: 'c', capability: 'catalog:read' },
  { path: '/tasks', text: 'tasks.title', icon: 'tasks', key: 't', capability: 'deliveries:read' },
  { path: '/system', text: 'system.title', icon: 'system', key: 'y', capability: 'system:read' },
];

/** What this person can open, on this server. */
export function entriesFor({ can, features = [] }: Me): readonly Entry[] {
  return ENTRIES.filter(
    ({ capability, feature }) =>
      (can as readonly string[]).includes(capability) && (feature === undefined || features.includes(feature)),
  );
}

/** Whether this person may open a path. The API decides about what no entry names. */
export function mayOpen(me: Me, path: string): boolean {
  const entry = ENTRIES.find((one) => path === one.path || path.startsWith(`${one.path}/`));
  return entry === undefined || entriesFor(me).includes(entry);
}
