import { api } from './api.js';
import { useCan } from './session.js';
import type { EventType } from './shapes.js';
import { useLoaded } from './use-loaded.js';

/** The event types that the caller may see; empty while they load. */
export function useEventTypes(): readonly EventType[] {
  const can = useCan();
  const isAllowed = can('catalog:read');
  const { data } = useLoaded('event types', async (signal) =>
    isAllowed ? (await api.listEventTypes(undefined, { signal })).items : [],
  );
  return data ?? [];
}
