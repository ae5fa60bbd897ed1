import type { StreamEvent } from './stream-events.js';

/** Options of `stream()`. */
export interface StreamOptions {
  /** Ends the loop. */
  signal?: AbortSignal;
  /** Continues an earlier stream: the last position that {@link onPosition} received. */
  lastId?: string;
  /** Called with the new position after each event. Store the position to continue after a restart. */
  onPosition?: (lastId: string) => void;
  /** Called with the error or reason when a connection was lost, before the client connects again. */
  onLost?: (error: unknown) => void;
  /** Called each time the client has connected. */
  onOpen?: () => void;
  /** Called after each connect, when all missed events have arrived. */
  onCurrent?: () => void;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** The API sends at least a heartbeat every 15 s. After a longer silence the connection is dead, even if nobody closed it. */
const LONGEST_SILENCE_MS = 45_000;
/** The number of ids that are remembered to drop duplicates: the API may send changes of the last 10 s twice. */
const REMEMBERED = 50_000;

/** Statuses after which a later request may succeed. After any other error status, a retry would fail as well. */
const COMES_BACK = new Set([408, 425, 429, 500, 502, 503, 504]);

type Open = (lastId: string | undefined, signal: AbortSignal) => Promise<Response>;

/** Reads a stream, connects again when the connection is lost, and drops changes that it has already yielded. */
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
        // The position moves only after the loop has handled the event, so an event that was not handled is sent again.
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

/** An error without a status comes from the connection. */
function canComeBack(error: unknown): boolean {
  const { status } = error as { status?: unknown };
  return typeof status !== 'number' || COMES_BACK.has(status);
}

/** One request, which is aborted if nothing arrives for too long. */
class Connection {
  private readonly controller = new AbortController();

  constructor(private readonly outer: AbortSignal | undefined) {
    outer?.addEventListener('abort', this.abort);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Waits for the next bytes. The timeout does not include the time in which the caller's loop handles an event. */
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
    // Abort the request even if the loop ended normally. Otherwise the API would continue to send.
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

/** Yields only complete messages. After a lost connection, the API sends an incomplete message again. */
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

/** Remembers the ids of the last changes. */
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
