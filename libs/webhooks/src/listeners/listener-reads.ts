import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { type WebhookPage, type WebhookPageOptions, page, readPage } from '../store/database/page.js';
import {
  type OwnerScope,
  externalKeyOf,
  listListeners,
  readByExternalKey,
  readListener,
} from '../store/listeners/listener-rows.js';
import { found } from './listener-changes.js';
import { assertOwner, otherOwner, ownerOf } from './listener-owner.js';
import { assertExternalId } from './listener-references.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import type { Listener } from './listener.js';
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

  async findByExternalId(externalId: string, owner?: string | number | bigint): Promise<Listener | null> {
    assertExternalId(externalId);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const key = externalKeyOf(ownerOf(owner, this.boundTo), externalId);
    const row = await transaction.run(() => readByExternalKey(database, key));
    return row ? this.shown.toListener(row) : null;
  }

  async list(
    options: WebhookPageOptions & { state?: Listener['state']; owner?: string } = {},
  ): Promise<WebhookPage<Listener>> {
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
    const rows = await transaction.run(() =>
      listListeners(database, { scope, ...(state === undefined ? {} : { state }), after, limit: limit + 1 }),
    );
    const mine = rows.filter((row) => scope === undefined || row.owner === scope);
    return page(
      mine,
      limit,
      (row) => ({ at: Number(row.createdAt), seq: String(row.seq) }),
      (row) => this.shown.toListener(row),
    );
  }
}
