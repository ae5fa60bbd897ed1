import { FIGURES } from './figures.js';
import type { EngineCosts, StepCosts } from './simulation/costs.js';

const EACH = 1 / 2;
/** A delivery that is alone has a batch of its own for its route, and one for its record. */
const BATCHES_ALONE = 2;
/** Events a second in the run that measured deliveries one by one. */
const ALONE_PER_SECOND = 20;

interface Totals {
  readonly direct: number;
  readonly alone: number;
  readonly idle: number;
  readonly stored: number;
  readonly claimed: number;
  /** Share of the request. A database has none. */
  readonly sendShare: number;
}

/**
 * Divides the measured totals into steps. What a delivery costs more when it is alone is the cost of its two batches. A delivery of full
 * batches has a small share in its batches, which is taken out. What is left beside the request is half for the route and half for the record.
 */
function stepsOf({ direct, alone, idle, stored, claimed, sendShare }: Totals): StepCosts {
  const shared = FIGURES.directBatches.value;
  const batch = Math.max(0, alone - idle / ALONE_PER_SECOND - direct) / (BATCHES_ALONE - shared);
  const own = Math.max(0, direct - batch * shared);
  const send = own * sendShare;
  const route = (own - send) * EACH;
  return {
    ...{ send, route, record: route, recordStored: route, routeStored: stored },
    ...{ routeBatch: batch, claimBatch: batch, recordBatch: batch },
    claim: Math.max(0, claimed - send - route),
  };
}

/** The costs of the steps, for the machine of the figures. */
export function engineCosts(): EngineCosts {
  const f = FIGURES;
  return {
    sender: stepsOf({
      direct: f.directSenderUs.value,
      alone: f.aloneSenderUs.value,
      idle: f.idleSenderUs.value,
      stored: f.storedSenderUs.value,
      claimed: f.claimedSenderUs.value,
      sendShare: f.sendShare.value,
    }),
    database: stepsOf({
      direct: f.directDatabaseUs.value,
      alone: f.aloneDatabaseUs.value,
      idle: f.idleDatabaseUs.value,
      stored: f.storedDatabaseUs.value,
      claimed: f.claimedDatabaseUs.value,
      sendShare: 0,
    }),
    roundTrips: {
      route: f.routeRoundTrips.value,
      claim: f.claimRoundTrips.value,
      record: f.recordRoundTrips.value,
    },
    roundTripMs: f.roundTripMs.value,
    receiverUs: 0,
  };
}
