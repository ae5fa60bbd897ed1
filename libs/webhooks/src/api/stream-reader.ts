import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { matchesPattern } from '../events/event-type.js';
import type { ReadScope } from '../store/queue/changed-deliveries.js';
import { SECOND } from '../time.js';
import type { Principal } from './access.js';
import type { StreamChange, StreamSource } from './stream-source.js';

/** What a reader has not read may take this much memory. */
const MOST_UNREAD_BYTES = 1_024 * 1_024;
const READS_WITHIN_MS = 30 * SECOND;

/** What a reader asks for. */
export interface StreamFilter {
  readonly principal: Principal;
  readonly listenerId: string | null;
  /** A type, or types such as `order.*`. */
  readonly type: string | null;
  /** Whether the session is still valid; rejects if it is not. `null`: the reader has no session. */
  readonly check: (() => Promise<unknown>) | null;
}

/** One open stream. */
export class StreamReader {
  /** What happens while the reader gets what it missed; `null`: nothing is kept back. */
  private kept: string[] | null = [];
  private keptBytes = 0;
  private readonly closed = new AbortController();

  constructor(
    readonly filter: StreamFilter,
    private readonly response: ServerResponse,
    /** What happened before is no news for this reader. */
    private readonly newsFrom: number,
  ) {
    response.once('close', () => this.closed.abort());
  }

  get scope(): ReadScope {
    return { owner: this.filter.principal.owner, listenerId: this.filter.listenerId };
  }

  get isOpen(): boolean {
    return !this.response.destroyed && !this.response.writableEnded;
  }

  /** The query has found it in the scope of some reader; this is the exact comparison for this one. */
  accepts({ capability }: StreamSource, change: StreamChange): boolean {
    const { principal, listenerId, type } = this.filter;
    if (change.at < this.newsFrom || !principal.can.includes(capability)) return false;
    if (change.audience !== undefined && change.audience !== principal.kind) return false;
    if (principal.kind === 'owner' && change.owner !== principal.owner) return false;
    if (listenerId !== null && change.listenerId !== listenerId) return false;
    return type === null || change.type === null || matchesPattern(type, change.type);
  }

  /** Sends what happens now: at once, or after what the reader has missed. */
  sendLive(text: string): void {
    if (this.kept === null) return this.send(text);
    this.kept.push(text);
    this.keptBytes += text.length;
    if (this.keptBytes > MOST_UNREAD_BYTES) this.cutOff();
  }

  /** Sends a part of what the reader has missed, and waits until the reader has read. */
  async sendMissed(text: string): Promise<void> {
    if (!this.isOpen || this.response.write(text)) return;
    const signal = AbortSignal.any([AbortSignal.timeout(READS_WITHIN_MS), this.closed.signal]);
    await once(this.response, 'drain', { signal }).catch(() => this.cutOff());
  }

  /** From now on nothing is kept back. */
  begin(): void {
    const kept = this.kept ?? [];
    this.kept = null;
    for (const text of kept) this.send(text);
  }

  /** A reader that does not read is cut off: it comes back with its last id, and then misses nothing. */
  private send(text: string): void {
    if (!this.isOpen) return;
    this.response.write(text);
    if (this.response.writableLength > MOST_UNREAD_BYTES) this.cutOff();
  }

  end(): void {
    if (this.isOpen) this.response.end();
  }

  cutOff(): void {
    this.response.destroy();
  }
}
