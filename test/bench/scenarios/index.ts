import type { Scenario } from '../scenario.js';
import { ceiling } from './ceiling.js';
import { drain } from './drain.js';
import { engines } from './engines.js';
import { latency, latencyByRedis } from './latency.js';
import { logCost } from './log-cost.js';
import { longTransaction, memory } from './long-backlogs.js';
import { manyListeners, noEquality } from './many-listeners.js';
import { badNeighbour, drippingOwner, slowDns } from './neighbours.js';
import { bullmq, bullmqUndici, byHand } from './queues.js';
import { scale } from './scale.js';
import { simulation } from './simulation.js';
import { singleListener } from './single-listener.js';
import { stepCosts } from './step-costs.js';
import { telemetry } from './telemetry.js';
import { triggerCost } from './trigger-cost.js';
import { wideFanout } from './wide-fanout.js';
import { writeCost } from './write-cost.js';

/** In the order of the run: scenarios that others are compared with come first. */
export const scenarios: readonly Scenario[] = [
  ...[ceiling, bullmq, bullmqUndici, byHand, drain, telemetry, logCost, singleListener],
  ...[
    latency,
    latencyByRedis,
    writeCost,
    triggerCost,
    manyListeners,
    noEquality,
    wideFanout,
    badNeighbour,
    slowDns,
    drippingOwner,
  ],
  ...[longTransaction, memory, scale, engines, stepCosts, simulation],
];
