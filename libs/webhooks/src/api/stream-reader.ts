import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { matchesPattern } from '../events/event-type.js';
import type { ReadScope } from '../store/queue/changed-deliveries.js';
import { SECOND } from '../time.js';
import type { Principal } from './access.js';
import type { StreamChange, StreamSource } from './stream-source.js';

/** The maximum size of the text that waits for one reader. A reader that falls further behind is cut off. */
const MOST_UNREAD_BYTES = 1_024 * 1_024;
const READS_WITHIN_MS = 30 * SECOND;

/** The part of the stream that a reader may see and has asked for. */
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
  /** Changes that occur while the reader receives the changes that it missed. `null` after that: changes are sent at once. */
  private kept: string[] | null = [];
  private keptBytes = 0;
  private readonly closed = new AbortController();

  constructor(
    readonly filter: StreamFilter,
    private readonly response: ServerResponse,
    /** Changes before this time are not sent as new. */
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

  /** Whether this reader gets the change. The query selects the changes for all readers together, so each reader compares again. */
  accepts({ capability }: StreamSource, change: StreamChange): boolean {
    const { principal, listenerId, type } = this.filter;
    if (change.at < this.newsFrom || !principal.can.includes(capability)) return false;
    if (change.audience !== undefined && change.audience !== principal.kind) return false;
    if (principal.kind === 'owner' && change.owner !== principal.owner) return false;
    if (listenerId !== null && change.listenerId !== listenerId) return false;
    return type === null || change.type === null || matchesPattern(type, change.type);
  }

  /** Sends a new change at once, or, if the reader is still receiving missed changes, after them. */
  sendLive(text: string): void {
    if (this.kept === null) return this.send(text);
    this.kept.push(text);
    this.keptBytes += text.length;
    if (this.keptBytes > MOST_UNREAD_BYTES) this.cutOff();
  }

  /** Sends one of the changes that the reader missed, and waits until the connection can take more. */
  async sendMissed(text: string): Promise<void> {
    if (!this.isOpen || this.response.write(text)) return;
    const signal = AbortSignal.any([AbortSignal.timeout(READS_WITHIN_MS), this.closed.signal]);
    await once(this.response, 'drain', { signal }).catch(() => this.cutOff());
  }

  /** Ends the phase of missed changes: sends the changes that were kept back, and later changes at once. */
  begin(): void {
    const kept = this.kept ?? [];
    this.kept = null;
    for (const text of kept) this.send(text);
  }

  /** A reader that is too slow is cut off. It reconnects with its last id, so it misses nothing. */
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
