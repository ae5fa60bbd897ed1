import { textOf } from '../foreign-text.js';
import { InvalidListenerError, listenerChanged, ListenerNotFoundError } from '../listener-errors.js';
import { routesOf } from '../routing/route-key.js';
import type { CallerTransaction } from '../store/database/caller-transactions.js';
import { isUniqueViolation } from '../store/database/database-errors.js';
import type { Database } from '../store/database/database.js';
import type { Script } from '../store/database/script.js';
import {
  type ListenerRow,
  type ListenerValues,
  type OwnerScope,
  lockListener,
  readByExternalKey,
  readListener,
  updateListener,
} from '../store/listeners/listener-rows.js';
import { writeAudit, type AuditEntry } from '../store/system/audit.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener, ListenerChangeOptions } from './listener.js';
import type { ShownListeners } from './shown-listeners.js';

/** Changes of existing listeners, each in the transaction of its caller. */
export class ListenerChanges {
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly shown: ShownListeners,
  ) {}

  /**
   * Locks a listener and writes the values that `changeOf` returns.
   *
   * @param andThen runs in the same transaction, after the write
   * @throws ListenerNotFoundError; InvalidListenerError `EXTERNAL_ID_TAKEN`, `LISTENER_CHANGED`
   */
  async change(
    transaction: CallerTransaction,
    id: string,
    changeOf: (row: ListenerRow) => {
      values: Partial<ListenerValues>;
      routes: ReturnType<typeof routesOf> | null;
      /** The change, for the audit log. */
      audit: Pick<AuditEntry, 'action' | 'details'>;
    },
    andThen?: (before: ListenerRow, values: Partial<ListenerValues>) => Script<void>,
    { ifRevision }: ListenerChangeOptions = {},
  ): Promise<Listener> {
    const { database, clock, actor } = this.parts;
    const scope = this.boundTo;
    const row = await writeListener(transaction, function* () {
      const before = found(yield* lockListener(database, textOf(id), scope), id);
      assertRevision(before, ifRevision);
      const { values, routes, audit } = changeOf(before);
      yield* assertUnique(database, values.externalKey ?? null, textOf(id));
      yield* updateListener(database, textOf(id), values, routes, clock.now());
      if (andThen) yield* andThen(before, values);
      yield* writeAudit(database, { ...audit, actor, target: before.id }, clock.now());
      return yield* readListener(database, textOf(id), scope);
    });
    return this.shown.toListener(found(row, id));
  }

  /** Wakes the dispatcher after the commit. */
  wake(transaction: CallerTransaction): void {
    transaction.afterCommit(this.parts.wake);
  }
}

/** @throws InvalidListenerError `EXTERNAL_ID_TAKEN`. If two transactions use the same id concurrently, the unique index decides */
export function* assertUnique(database: Database, key: Buffer | null, id: string): Script<void> {
  const taken = key && (yield* readByExternalKey(database, key));
  if (taken && taken.id !== id) throw externalIdTaken();
}

/** Runs a script that writes a listener. Only `externalId` can violate a unique index, because the ids of listeners are new. */
export async function writeListener<T>(transaction: CallerTransaction, script: () => Script<T>): Promise<T> {
  try {
    return await transaction.run(script);
  } catch (error) {
    throw isUniqueViolation(error) ? externalIdTaken() : error;
  }
}

function externalIdTaken(): InvalidListenerError {
  return new InvalidListenerError('EXTERNAL_ID_TAKEN', 'Another listener of this owner has this `externalId`.', {
    httpStatus: 409,
  });
}

/** @throws InvalidListenerError `LISTENER_CHANGED` */
export function assertRevision(row: ListenerRow, expected: number | undefined): void {
  const revision = Number(row.revision);
  if (expected !== undefined && expected !== revision) throw listenerChanged(revision, expected);
}

/** @throws ListenerNotFoundError */
export function found(row: ListenerRow | undefined, id: string): ListenerRow {
  if (!row) throw new ListenerNotFoundError(textOf(id));
  return row;
}
