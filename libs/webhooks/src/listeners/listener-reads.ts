import { BadRequestError } from '../errors.js';
import { assertPattern, patternsMatching } from '../events/event-type.js';
import { textOf } from '../foreign-text.js';
import { type WebhookPage, type WebhookPageOptions, page, readPage } from '../store/database/page.js';
import { type ListenerFilterRow, listenerScanEnd, listListeners } from '../store/listeners/listed-listeners.js';
import { type OwnerScope, externalKeyOf, readByExternalKey, readListener } from '../store/listeners/listener-rows.js';
import { readLastErrors, readListenerHealth } from '../store/listeners/listener-health.js';
import { isOpen } from '../health/circuit.js';
import { found } from './listener-changes.js';
import { assertOwner, otherOwner, ownerOf } from './listener-owner.js';
import { assertExternalId } from './listener-references.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener, ListenerFilter, ListenerHealth } from './listener.js';
import type { ShownListeners } from './shown-listeners.js';
import { invalidValue } from '../show.js';

const STATES: readonly Listener['state'][] = ['active', 'pending', 'disabled'];

/** Reads listeners. */
export class ListenerReads {
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly shown: ShownListeners,
  ) {}

  async get(id: string): Promise<Listener> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    return this.shown.toListener(found(await transaction.run(() => readListener(database, textOf(id), scope)), id));
  }

  /** The health of listeners that the caller has just read. */
  async health(listeners: readonly Listener[]): Promise<ReadonlyMap<string, ListenerHealth>> {
    const { database, options } = this.parts;
    const ids = listeners.map(({ id }) => id);
    const failing = listeners.filter((one) => one.failuresInARow > 0).map(({ id }) => id);
    const { rows, errors } = await this.parts.transactions.here().run(function* () {
      return { rows: yield* readListenerHealth(database, ids), errors: yield* readLastErrors(database, failing) };
    });
    return new Map(
      listeners.map(({ id, failuresInARow, failingSince, pausedUntil }) => {
        const { waiting = 0, lastAcceptedAt = null } = rows.get(id) ?? {};
        const isTripped = isOpen(failuresInARow, options.dispatcher.circuit);
        const circuit = isTripped ? (pausedUntil === null ? 'probing' : 'open') : 'closed';
        const acceptedAt = lastAcceptedAt === null ? null : new Date(lastAcceptedAt);
        const lastErrorCode = errors.get(id) ?? null;
        const shown = { circuit, failuresInARow, failingSince, pausedUntil, lastErrorCode } as const;
        return [id, { ...shown, lastAcceptedAt: acceptedAt, waiting }];
      }),
    );
  }

  async findByExternalId(externalId: string, owner?: string | number | bigint): Promise<Listener | null> {
    assertExternalId(externalId);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const key = externalKeyOf(ownerOf(owner, this.boundTo), externalId);
    const row = await transaction.run(() => readByExternalKey(database, key));
    return row ? this.shown.toListener(row) : null;
  }

  async list(options: WebhookPageOptions & ListenerFilter = {}): Promise<WebhookPage<Listener>> {
    const { limit, after } = readPage(options);
    const { state } = options;
    if (state !== undefined && !STATES.includes(state)) {
      const allowed = STATES.map((known) => `'${known}'`).join(', ');
      throw new BadRequestError('INVALID_STATE', invalidValue('state', state, allowed));
    }
    const owner = options.owner === undefined ? undefined : assertOwner(options.owner);
    if (this.boundTo !== undefined && owner !== undefined && owner !== this.boundTo) throw otherOwner();
    const scope = this.boundTo ?? owner;
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const filter = filterRow(options, scope);
    const { rows, until } = await transaction.run(function* () {
      const until = yield* listenerScanEnd(database, filter, after);
      return { until, rows: yield* listListeners(database, { ...filter, after, until, limit: limit + 1 }) };
    });
    const mine = rows.filter((row) => scope === undefined || row.owner === scope);
    return page(
      mine,
      limit,
      (row) => ({ at: Number(row.createdAt), seq: String(row.seq) }),
      (row) => this.shown.toListener(row),
      until,
    );
  }
}

/** @throws BadRequestError `INVALID_EVENT_TYPE` */
function filterRow({ state, type, search, failing }: ListenerFilter, scope: OwnerScope): ListenerFilterRow {
  const filter: ListenerFilterRow = { scope };
  if (state !== undefined) filter.state = state;
  if (type !== undefined) {
    assertPattern(type);
    filter.patterns = patternsMatching(type);
  }
  if (search !== undefined) filter.search = textOf(search).toLowerCase();
  if (failing === true) filter.isFailing = true;
  return filter;
}
