import { EntityRegistry } from '../../entities/entity-registry.js';
import { loadExposure } from '../../entities/exposed-properties.js';
import { registeredEntity } from '../../entities/webhook-feature.js';
import { EventCatalog } from '../../listeners/event-catalog.js';
import { PinnedVersions } from '../../listeners/pinned-versions.js';
import { VersionedTypes } from '../../listeners/versioned-types.js';
import type { Database } from '../../store/database/database.js';
import { readListenerSettings, type ListenerSettings } from '../../store/queue/overview.js';
import type { LoadedDataSource } from '../data-source/open-data-source.js';

/** The event types that a data source file declares, with their versions. */
export async function declaredTypes({ dataSource, options, resolved }: LoadedDataSource) {
  await loadExposure();
  const { publishedTypes, operationalEvents, payload, capture } = resolved;
  const registry = new EntityRegistry();
  registry.register((options.entities ?? []).map(registeredEntity));
  registry.registerDecorated(dataSource);
  registry.serve(dataSource, 'default', capture);
  const catalog = new EventCatalog(dataSource, registry, publishedTypes, operationalEvents);
  const types = new VersionedTypes(registry, publishedTypes, payload.maxPayloadBytes);
  return { catalog, versions: new PinnedVersions(catalog, types) };
}

/** Visits every listener. @returns how many there are */
export async function eachListener(database: Database, visit: (listener: ListenerSettings) => void): Promise<number> {
  let all = 0;
  for (let after = '0'; ;) {
    const from = after;
    const page = await database.single(() => readListenerSettings(database, from));
    all += page.length;
    for (const listener of page) visit(listener);
    const last = page.at(-1);
    if (!last) return all;
    after = last.seq;
  }
}
