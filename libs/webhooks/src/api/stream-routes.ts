import type { ApiAnswer, ApiCall, ApiRoute } from './route.js';
import { readCursor } from './stream-cursor.js';

export const STREAM_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'stream',
    method: 'GET',
    path: '/stream',
    summary: 'Sends what happens, as server-sent events',
    capability: null,
    query: {
      listenerId: { type: 'string', maxLength: 64, description: 'Only of this listener.' },
      type: {
        type: 'string',
        maxLength: 128,
        description: 'Only deliveries of this event type, or of types such as order.*.',
      },
    },
    status: 200,
    answer: {
      type: 'string',
      description: 'Events delivery, listener, task, overview and reset; each with an id for Last-Event-ID.',
    },
    answerType: 'text/event-stream',
    reach: 'all',
    errors: [400, 404],
    run: openStream,
  },
];

async function openStream({ parts, principal, listeners, query, header, checkSession }: ApiCall): Promise<ApiAnswer> {
  const { listenerId = null, type = null } = query as { listenerId?: string; type?: string };
  const lastId = header('last-event-id');
  const missedSince = lastId === undefined ? null : readCursor(lastId);
  const stream = parts.streams.reserve({ principal, listenerId, type, check: checkSession }, missedSince);
  try {
    // The same error for an unknown listener and for one of another owner.
    if (listenerId !== null) await listeners.get(listenerId);
  } catch (error) {
    stream.cancel();
    throw error;
  }
  return { stream };
}
