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
import { type ListenerChanges, found } from './listener-changes.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener } from './listener.js';
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

  async enable(id: string, options: { held?: 'release' | 'discard' } = {}): Promise<Listener> {
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
      }),
      function* (before, { state }) {
        if (before.state === 'active') return;
        if (held === 'discard') yield* discardDue(database, before.id, { now: clock.now(), limit: DISCARD_BATCH });
        yield* resumeListener(database, before.id, state === 'pending' ? clock.now() : null);
      },
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
    const { wasActive, row } = await transaction.run(function* () {
      found(yield* lockListener(database, textOf(id), scope), id);
      const wasActive = yield* disableListener(
        database,
        textOf(id),
        storable(reason).slice(0, MAX_REASON_LENGTH),
        clock.now(),
      );
      return { wasActive, row: yield* readListener(database, textOf(id), scope) };
    });
    const listener = this.shown.toListener(found(row, id));
    if (wasActive) transaction.afterCommit(() => this.parts.disabled(listener));
    return listener;
  }

  async remove(id: string): Promise<void> {
    const { database, clock } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    await transaction.run(function* () {
      found(yield* lockListener(database, textOf(id), scope), id);
      yield* removeListener(database, textOf(id), clock.now());
    });
    await this.discardAll(transaction, textOf(id));
  }

  /** Works in batches, so that other statements wait only briefly. If this process dies meanwhile, the next claim discards the rest. */
  private async discardAll(transaction: CallerTransaction, id: string): Promise<void> {
    const { database, clock } = this.parts;
    const options = { now: clock.now(), limit: DISCARD_BATCH };
    while ((await transaction.run(() => discardDue(database, id, options))) === DISCARD_BATCH);
  }
}

/** Removes NUL, which PostgreSQL's `text` does not accept. */
function storable(text: string): string {
  return textOf(text).replaceAll('\0', '');
}
