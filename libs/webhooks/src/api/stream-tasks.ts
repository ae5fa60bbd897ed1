import { toTask } from '../deliveries/task.service.js';
import { readRecentTasks } from '../store/queue/changed-tasks.js';
import { HOUR, SECOND } from '../time.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { StreamSource } from './stream-source.js';
import { shownTask } from './task-routes.js';

const MOST_ROWS = 1_000;

/** Tasks that were created, made progress or ended. A position is a time. */
export function taskChanges({ database, clock }: Pick<WebhooksRuntime, 'database' | 'clock'>): StreamSource {
  return {
    key: 't',
    event: 'task',
    capability: 'deliveries:read',
    overlap: [10 * SECOND, HOUR],
    beginsBefore: 10 * SECOND,
    step: Infinity,
    farthest: 24 * HOUR,
    last: () => Promise.resolve(clock.now()),
    async read(_, { after, upTo }) {
      const rows = await database.single(() => readRecentTasks(database, after, MOST_ROWS + 1));
      if (rows.length > MOST_ROWS) return null;
      const changes = rows.map((row) => {
        const changedAt = Number(row.updatedAt);
        return {
          id: `${row.id}.${row.state}.${Number(row.done)}`,
          position: changedAt,
          at: changedAt,
          owner: row.owner,
          listenerId: row.listenerId,
          type: null,
          dataFor: () => ({ task: shownTask(toTask(row)) }),
        };
      });
      return changes
        .filter(({ position }) => position > after && position <= upTo)
        .toSorted((a, b) => a.position - b.position);
    },
  };
}
