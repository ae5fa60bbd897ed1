import { afterAll, beforeAll, beforeEach, describe } from 'vitest';
import type { FreshDatabase } from '../support/databases.js';
import { describeClaims } from './conformance/claims.js';
import { describeDeliveries } from './conformance/deliveries.js';
import { describeFanOuts } from './conformance/fan-outs.js';
import { describeLeases } from './conformance/leases.js';
import { describeListeners } from './conformance/listeners.js';
import { describeRandomSteps } from './conformance/random-steps.js';
import { describeRecords } from './conformance/records.js';
import { empty, StoreSuite } from './conformance/store-suite.js';
import { describeValues } from './conformance/values.js';
import { describeWorkers } from './conformance/workers.js';

/**
 * The promises of every store, one family of statements after the other.
 *
 * @param create creates a database of this kind; its `options` may connect through a pooler
 */
export function describeStore(title: string, create: () => Promise<FreshDatabase>): void {
  describe(`${title}`, () => {
    const suite = new StoreSuite(title, create);
    beforeAll(() => suite.open());
    afterAll(() => suite.close());
    beforeEach(() => empty(suite.database));

    describeFanOuts(suite);
    describeClaims(suite);
    describeRecords(suite);
    describeLeases(suite);
    describeListeners(suite);
    describeDeliveries(suite);
    describeValues(suite);
    describeRandomSteps(suite);
    describeWorkers(suite);
  });
}
