import { textOf } from '../foreign-text.js';
import { newId } from '../ids.js';
import { generateSecret } from '../signing/secret.js';
import type { CallerTransaction } from '../store/database/caller-transactions.js';
import {
  type ListenerRow,
  type ListenerValues,
  type OwnerScope,
  countListeners,
  insertListener,
  lastSequence,
  readListener,
  resumeListener,
} from '../store/listeners/listener-rows.js';
import { writeAudit } from '../store/system/audit.js';
import { Credentials } from './credentials.js';
import { handshakeChange, handshakeOf } from './handshake/handshake-choice.js';
import { type ListenerChanges, assertUnique, found, writeListener } from './listener-changes.js';
import { ListenerChecks } from './listener-checks.js';
import { CREATED_BY_APPLICATION, REFERENCES, assertInput, shortForm, withoutUndefined } from './listener-input.js';
import { warnOfShortSecret } from './listener-keys.js';
import { ownerOf } from './listener-owner.js';
import { storedReferences } from './listener-references.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import { CreateListenerDto, UpdateListenerDto, checkShape } from './listener.dto.js';
import type {
  CreateListenerInput,
  Listener,
  ListenerChangeOptions,
  ListenerInput,
  ListenerWithSecret,
  UpdateListenerInput,
} from './listener.js';
import type { ShownListeners } from './shown-listeners.js';
import type { SigningKeys } from './signing-keys.js';

/** `disabledReason` of a listener that was created with `enabled: false`. */
const CREATED_DISABLED = 'created as disabled';

/** Creates and updates listeners. */
export class ListenerWrites {
  private readonly checks: ListenerChecks;
  private readonly credentials: Credentials;

  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope,
    private readonly shown: ShownListeners,
    private readonly changes: ListenerChanges,
    private readonly keys: SigningKeys,
  ) {
    this.checks = new ListenerChecks(parts, boundTo);
    this.credentials = new Credentials(parts);
  }

  async create(input: CreateListenerInput): Promise<ListenerWithSecret> {
    const transaction = this.parts.transactions.here();
    assertInput(input);
    const { entity, property, value, owner: givenOwner, privateKey, externalId, metadata, ...rest } = input;
    const isDisabled = rest.enabled === false;
    const listenerInput: ListenerInput = { ...rest };
    const isOwned = this.boundTo !== undefined || (givenOwner ?? null) !== null;
    if (entity !== undefined) listenerInput.events = this.checks.entityEvents(entity, rest.events, isOwned);
    if (property !== undefined || value !== undefined) listenerInput.where = shortForm(property, value, rest.where);
    checkShape(
      CreateListenerDto,
      withoutUndefined(listenerInput),
      this.boundTo === undefined ? CREATED_BY_APPLICATION : [],
    );
    const owner = ownerOf(givenOwner, this.boundTo);
    const secret = listenerInput.secret ?? generateSecret();
    const now = this.parts.clock.now();
    const subscription = this.checks.subscription(listenerInput.events ?? [], listenerInput.where ?? {}, owner);
    const id = newId('lst');
    const delivering = this.checks.delivering(listenerInput);
    const handshake = handshakeOf(listenerInput.handshake ?? null, this.checks.handshakeRules);
    const schemes = JSON.parse(delivering.schemes) as string[];
    const values: ListenerValues = {
      id,
      owner,
      ...subscription.values,
      ...delivering,
      versions: this.parts.versions.stored(listenerInput.versions, {
        patterns: JSON.parse(subscription.values.patterns) as string[],
        isOwned: owner !== null,
      }),
      externalId: null,
      externalKey: null,
      metadata: null,
      ...storedReferences(owner, { externalId, metadata }),
      handshake,
      secrets: this.keys.firstOf(id, schemes, secret, privateKey),
      auth: this.credentials.authOf(id, listenerInput.auth, delivering.url),
      tls: this.credentials.tlsText(id, this.credentials.checkedTls(listenerInput.tls), delivering.url),
      handshakeError: null,
      allowedRate: null,
      state: isDisabled ? 'disabled' : handshake === 'none' ? 'active' : 'pending',
      disabledReason: isDisabled ? CREATED_DISABLED : null,
    };
    await this.parts.assertAddress(new URL(values.url));
    await this.credentials.assertTokenAddress(values.auth);
    const { actor, database, quotas } = this.parts;
    const scope = this.boundTo;
    const seen = await this.committedSequence(transaction);
    const row = await writeListener(transaction, function* () {
      if (scope !== undefined) quotas.assertMayCreate(yield* countListeners(database, scope));
      yield* assertUnique(database, values.externalKey, id);
      yield* insertListener(database, values, subscription.routes, now, seen);
      yield* writeAudit(database, { actor, action: 'listener.created', target: id, details: { owner } }, now);
      return yield* readListener(database, values.id, undefined);
    });
    if (values.state === 'pending') this.changes.wake(transaction);
    warnOfShortSecret(this.parts, id, secret);
    return { ...this.shown.toListener(found(row, values.id)), secret };
  }

  async update(id: string, input: UpdateListenerInput, options: ListenerChangeOptions = {}): Promise<Listener> {
    const transaction = this.parts.transactions.here();
    assertInput(input);
    const { externalId, metadata, ...rest } = input;
    const given = withoutUndefined(rest);
    // The audit log gets only the names of the changed properties, because values may contain tokens.
    const changed = Object.keys(withoutUndefined(input));
    checkShape(UpdateListenerDto, given, this.boundTo === undefined ? REFERENCES : []);
    if (given.url !== undefined) await this.parts.assertAddress(this.checks.urlOf(given.url));
    if (given.auth) await this.credentials.assertTokenAddress(this.credentials.authOf(textOf(id), given.auth, ''));
    const tls = this.credentials.checkedTls(given.tls);
    const { database, clock } = this.parts;
    const listener = await this.changes.change(
      transaction,
      id,
      (row) => {
        const { events, where, ...present } = this.shown.toListener(row);
        // As in `create`, `null` means the default.
        const merged = { ...present, ...given };
        const delivering = this.checks.delivering(merged, present);
        const values = {
          ...delivering,
          ...this.keys.changed(row, given.schemes),
          ...this.credentials.changedAuth(row, given),
          ...this.credentials.changedTls(row, given.url, tls),
          ...handshakeChange(row, delivering.url, given.handshake, this.checks.handshakeRules),
          ...this.changedVersions(row, given),
        };
        Object.assign(values, storedReferences(row.owner, { externalId, metadata }));
        const audit = { action: 'listener.updated', details: { changed } } as const;
        if (given.events === undefined && given.where === undefined) return { values, routes: null, audit };
        const subscribed = { events, where, ...given };
        const subscription = this.checks.subscription(subscribed.events ?? [], subscribed.where ?? {}, row.owner);
        return { values: { ...values, ...subscription.values }, routes: subscription.routes, audit };
      },
      function* (before, { state, url }) {
        const isNewUrl = url !== before.url;
        const isSameState = state === undefined || (state === 'active' && before.state === 'active');
        if (before.state === 'disabled' || (isSameState && !isNewUrl)) return;
        const now = clock.now();
        yield* resumeListener(database, before.id, state === 'pending' ? now : null, isNewUrl ? now : null);
      },
      options,
    );
    this.changes.wake(transaction);
    return listener;
  }

  private changedVersions(row: ListenerRow, given: UpdateListenerInput): { versions?: string | null } {
    if (given.versions === undefined && given.events === undefined) return {};
    const before = { patterns: JSON.parse(row.patterns) as string[], versions: row.versions };
    const patterns = given.events ?? before.patterns;
    // An invalid pattern is reported by the check of the subscription.
    if (given.events) this.parts.catalog.checkPatterns([...given.events], row.owner !== null);
    return { versions: this.parts.versions.stored(given.versions, { patterns, isOwned: row.owner !== null }, before) };
  }

  /**
   * The sequence of the newest committed event. It is read outside the transaction, because the snapshot of the transaction may be older
   * than this event.
   */
  private committedSequence({ runner }: CallerTransaction): Promise<unknown> {
    const { database } = this.parts;
    // SQLite allows one writer, and this transaction is the writer.
    if (database.dialect === 'sqlite' || !runner) return Promise.resolve(0);
    return database.single(() => lastSequence(database));
  }
}
