import { databases } from '../support/databases.js';
import { describeConformance } from './conformance.js';

for (const database of databases) {
  describeConformance(
    {
      name: 'trigger',
      webhooks: { capture: 'trigger' },
      settle: async ({ dispatcher }) => void (await dispatcher.drain()),
    },
    database,
  );
}
