import type { Scenario } from '../scenario.js';
import { ceiling } from './ceiling.js';
import { drain } from './drain.js';
import { bullmq, bullmqUndici, byHand } from './queues.js';

/** In the order in which they run: what is compared with comes first. */
export const scenarios: readonly Scenario[] = [ceiling, bullmq, bullmqUndici, byHand, drain];
