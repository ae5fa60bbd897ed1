import { textOf } from '../foreign-text.js';
import { InvalidListenerError } from '../listener-errors.js';
import type { CallerTransaction } from '../store/database/caller-transactions.js';
import {
  DISCARD_BATCH,
  type OwnerScope,
  disableListener,
  discardDue,
  lockListener,
  readListener,
  removeListener,
  resumeListener,
} from '../store/listeners/listener-rows.js';
import { writeAudit } from '../store/system/audit.js';
import { type ListenerChanges, assertRevision, found } from './listener-changes.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener, ListenerChangeOptions } from './listener.js';
import type { ShownListeners } from './shown-listeners.js';
import { invalidValue } from '../show.js';

const MAX_REASON_LENGTH = 500;

/** Moves listeners between their states, and removes them. */
export class ListenerStates {
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly shown: ShownListeners,
    private readonly changes: ListenerChanges,
  ) {}

  async enable(id: string, options: { held?: 'release' | 'discard' } & ListenerChangeOptions = {}): Promise<Listener> {
    const { held = 'release' } = options;
    if (held !== 'release' && held !== 'discard') {
      throw new InvalidListenerError('INVALID_LISTENER', invalidValue('held', held, "'release', 'discard'"));
    }
    const { database, clock } = this.parts;
    const transaction = this.parts.transactions.here();
    if (held === 'discard' && (await this.stateOf(transaction, id)) !== 'active')
      await this.discardAll(transaction, textOf(id));
    const listener = await this.changes.change(
      transaction,
      id,
      ({ handshake, state }) => ({
        values: { state: handshake === 'none' || state === 'active' ? 'active' : 'pending', disabledReason: null },
        routes: null,
        audit: { action: 'listener.enabled', details: { held } },
      }),
      function* (before, { state }) {
        if (before.state === 'active') return;
        if (held === 'discard') yield* discardDue(database, before.id, { now: clock.now(), limit: DISCARD_BATCH });
        yield* resumeListener(database, before.id, state === 'pending' ? clock.now() : null);
      },
      options,
    );
    this.changes.wake(transaction);
    return listener;
  }

  private async stateOf(transaction: CallerTransaction, id: string): Promise<string> {
    const { database } = this.parts;
    const scope = this.boundTo;
    return found(await transaction.run(() => readListener(database, textOf(id), scope)), id).state;
  }

  async disable(id: string, reason: string): Promise<Listener> {
    const { database, clock } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    const { actor, storeDisabled } = this.parts;
    const { wasActive, hasEvent, row } = await transaction.run(function* () {
      found(yield* lockListener(database, textOf(id), scope), id);
      const wasActive = yield* disableListener(database, textOf(id), storable(reason), clock.now());
      const audit = {
        actor,
        action: 'listener.disabled',
        target: textOf(id),
        details: { reason: storable(reason) },
      } as const;
      yield* writeAudit(database, audit, clock.now());
      const row = yield* readListener(database, textOf(id), scope);
      const hasEvent = wasActive && row ? yield* storeDisabled(row) : false;
      return { wasActive, hasEvent, row };
    });
    const listener = this.shown.toListener(found(row, id));
    if (wasActive) transaction.afterCommit(() => this.parts.disabled(listener));
    if (hasEvent) this.changes.wake(transaction);
    return listener;
  }

  async remove(id: string, { ifRevision }: ListenerChangeOptions = {}): Promise<void> {
    const { actor, database, clock } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    await transaction.run(function* () {
      assertRevision(found(yield* lockListener(database, textOf(id), scope), id), ifRevision);
      yield* removeListener(database, textOf(id), clock.now());
      yield* writeAudit(database, { actor, action: 'listener.removed', target: textOf(id) }, clock.now());
    });
    await this.discardAll(transaction, textOf(id));
  }

  /**
   * Discards all pending deliveries of a listener. The method works in batches, because then other statements wait only for a short
   * time. If this process dies meanwhile, the next claim discards the remaining deliveries.
   */
  private async discardAll(transaction: CallerTransaction, id: string): Promise<void> {
    const { database, clock } = this.parts;
    const options = { now: clock.now(), limit: DISCARD_BATCH };
    while ((await transaction.run(() => discardDue(database, id, options))) === DISCARD_BATCH);
  }
}

/** Removes NUL, because PostgreSQL's type `text` does not accept NUL. */
function storable(text: string): string {
  return textOf(text).replaceAll('\0', '').slice(0, MAX_REASON_LENGTH);
}
