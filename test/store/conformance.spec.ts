import { databases } from '../support/databases.js';
import { createPartitioned } from '../support/partitioned.js';
import { START } from './conformance/store-suite.js';
import { describeStore } from './conformance.js';

for (const { name, create } of databases) {
  describeStore(`the store on ${name}`, create);
  if (name !== 'postgres') continue;
  describeStore('the store on postgres with partitions', async () => {
    const fresh = await create();
    await createPartitioned(fresh.options, {}, [0, START]);
    return fresh;
  });
}
