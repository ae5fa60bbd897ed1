import { counted } from '../terminal/table.js';
import { ok, warn, type Check } from './check.js';
import { declaredTypes, eachListener } from './declared-types.js';

/** Whether every version that listeners have pinned is offered. */
export const payloadVersions: Check = {
  name: 'payload versions',
  needsTables: true,
  async run({ loaded, database }) {
    const { versions } = await declaredTypes(loaded);
    const missing: string[] = [];
    await eachListener(database, ({ id, ...listener }) => {
      for (const { type, version } of versions.missing(listener.versions, listener))
        missing.push(`version ${version} of ${type} for ${id}`);
    });
    if (!missing.length) return ok('all pinned versions are offered');
    return warn(
      `${counted(missing.length, 'pinned version is', 'pinned versions are')} not offered, such as ${missing[0]}`,
      'Their deliveries wait. Declare the version in `versions` again, or change `versions` of the listeners.',
    );
  },
};
