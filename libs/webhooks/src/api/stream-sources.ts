import type { WebhooksRuntime } from '../webhooks-runtime.js';
import { attempts, newDeliveries } from './stream-deliveries.js';
import { listenerChanges } from './stream-listeners.js';
import { overviews } from './stream-overview.js';
import type { StreamSource } from './stream-source.js';
import { taskChanges } from './stream-tasks.js';

/**
 * The sources of the stream. To add a kind of event, add its source here, its name to `StreamEventName`, and its type to
 * `client/stream-events.ts`.
 */
export function streamSources(runtime: WebhooksRuntime): readonly StreamSource[] {
  return [...rowSources(runtime), overviews(runtime)];
}

/** The sources that read rows, and no sums. */
export function rowSources(runtime: WebhooksRuntime): readonly StreamSource[] {
  return [newDeliveries(runtime), attempts(runtime), listenerChanges(runtime), taskChanges(runtime)];
}
