import type { StreamEvent } from './stream-events.js';

/** Options of `stream()`. */
export interface StreamOptions {
  /** Ends the loop. */
  signal?: AbortSignal;
  /** Continue after an earlier stream: what {@link onPosition} got last. */
  lastId?: string;
  /** Called with the position after each part that arrived. Store it to continue after a restart. */
  onPosition?: (lastId: string) => void;
  /** Called before a lost connection is opened again, with what ended it. */
  onLost?: (error: unknown) => void;
  /** Called when a connection is open, for the first time or again. */
  onOpen?: () => void;
  /** Called when everything that was missed has arrived. */
  onCurrent?: () => void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** The API sends something each 15 s. Silence means a connection that nobody ended. */
const LONGEST_SILENCE_MS = 45_000;
/** Ids of changes that are remembered: those of the last 10 s may come again. */
const REMEMBERED = 50_000;

/** A request that waits may succeed later; one that is refused may not. */
const COMES_BACK = new Set([408, 425, 429, 500, 502, 503, 504]);

type Open = (lastId: string | undefined, signal: AbortSignal) => Promise<Response>;

/** Reads a stream, opens it again when the connection is lost, and drops what it has seen. */
export async function* streamOf(open: Open, options: StreamOptions = {}): AsyncGenerator<StreamEvent> {
  const seen = new Seen();
  let { lastId } = options;
  let waitMs = FIRST_WAIT_MS;
  while (!options.signal?.aborted) {
    const connection = new Connection(options.signal);
    try {
      const response = await open(lastId, connection.signal);
      options.onOpen?.();
      for await (const { id, event, comment } of messagesOf(response, connection)) {
        waitMs = FIRST_WAIT_MS;
        if (comment === 'current') options.onCurrent?.();
        if (event && seen.isNew(event)) yield event;
        // After the loop has handled the event: what it has not handled comes again.
        if (id !== undefined && id !== lastId) options.onPosition?.((lastId = id));
      }
    } catch (error) {
      if (options.signal?.aborted) return;
      if (!canComeBack(error)) throw error;
      options.onLost?.(error);
    } finally {
      connection.close();
    }
    await pause(waitMs, options.signal);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
  }
}

/** An error without a status is one of the connection. */
function canComeBack(error: unknown): boolean {
  const { status } = error as { status?: unknown };
  return typeof status !== 'number' || COMES_BACK.has(status);
}

/** One request, and the watch over it. */
class Connection {
  private readonly controller = new AbortController();

  constructor(private readonly outer: AbortSignal | undefined) {
    outer?.addEventListener('abort', this.abort);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Waits for something to arrive. The time in which the loop handles an event is no silence. */
  async within<T>(arrival: Promise<T>): Promise<T> {
    const watch = setTimeout(this.abort, LONGEST_SILENCE_MS);
    try {
      return await arrival;
    } finally {
      clearTimeout(watch);
    }
  }

  close(): void {
    this.outer?.removeEventListener('abort', this.abort);
    // Also when the loop ends by itself: the API must not send on.
    this.controller.abort();
  }

  private readonly abort = (): void => this.controller.abort();
}

interface Message {
  readonly id: string | undefined;
  /** `null`: only the position has changed. */
  readonly event: StreamEvent | null;
  readonly comment: string | undefined;
}

/** Complete messages only: the rest of a lost connection comes again. */
async function* messagesOf({ body }: Response, connection: Connection): AsyncGenerator<Message> {
  if (!body) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { done, value } = await connection.within(reader.read());
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() as string;
    for (const block of blocks) yield messageOf(block);
  }
}

function messageOf(block: string): Message {
  const fields = new Map(block.split('\n').map((line) => [line.replace(/:.*$/s, ''), line.replace(/^[^:]*: ?/, '')]));
  const [id, event, data, comment] = ['id', 'event', 'data', ''].map((name) => fields.get(name));
  const isEvent = event !== undefined && data !== undefined;
  return { id, comment, event: isEvent ? ({ event, data: JSON.parse(data) as unknown } as StreamEvent) : null };
}

/** The ids of the last changes. */
class Seen {
  private readonly ids = new Set<string>();

  isNew({ event, data }: StreamEvent): boolean {
    const id = `${event} ${data.id}`;
    if (this.ids.has(id)) return false;
    this.ids.add(id);
    if (this.ids.size > REMEMBERED) this.ids.delete(this.ids.values().next().value as string);
    return true;
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal?.aborted) end();
    else signal?.addEventListener('abort', end);
  });
}
