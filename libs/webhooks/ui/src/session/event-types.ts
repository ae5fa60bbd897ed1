import { api } from './api.js';
import { useCan } from './session.js';
import type { EventType } from './shapes.js';
import { t } from '../words/words.js';
import { useLoaded, type Loaded } from './use-loaded.js';

/** The event types that the caller may see; empty while they load. */
export function useEventTypes(): readonly EventType[] {
  return useLoadedEventTypes().data ?? [];
}

/** The same, with what became of the request. */
export function useLoadedEventTypes(): Loaded<readonly EventType[]> {
  const can = useCan();
  const isAllowed = can('catalog:read');
  return useLoaded('event types', async (signal) =>
    isAllowed ? (await api.listEventTypes(undefined, { signal })).items : [],
  );
}

/** Types by the name of their group, in the order of the catalogue. Types without a group come last. */
export function groupsOf(
  types: readonly EventType[],
): readonly (readonly [name: string, types: readonly EventType[]])[] {
  const groups = new Map<string, EventType[]>();
  const [grouped, others] = [types.filter(({ group }) => group !== null), types.filter(({ group }) => group === null)];
  for (const type of grouped) groups.set(type.group ?? '', [...(groups.get(type.group ?? '') ?? []), type]);
  return others.length === 0 ? [...groups] : [...groups, [t('catalogue.no-group'), others]];
}
