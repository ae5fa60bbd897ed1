import { writePins } from '../events/payload-pins.js';
import { textOf } from '../foreign-text.js';
import { InvalidListenerError, LISTENER_DISABLED_MESSAGE, LISTENER_PENDING_MESSAGE } from '../listener-errors.js';
import { type WebhookKeySet, keySetOf } from '../signing/ed25519-key.js';
import type { WebhookPage, WebhookPageOptions } from '../store/database/page.js';
import { type ListenerRow, type OwnerScope, readListener } from '../store/listeners/listener-rows.js';
import { TEST_EVENT_TYPE, type TestExample } from '../store/queue/test-event.js';
import { type ErasedOwner, eraseOwner } from './erase-owner.js';
import { ListenerChanges, found } from './listener-changes.js';
import { ListenerKeys } from './listener-keys.js';
import { assertOwner, otherOwner } from './listener-owner.js';
import { ListenerChecks } from './listener-checks.js';
import { ListenerPreviews, type ListenerPreview, type PreviewInput } from './listener-preview.js';
import { ListenerReads } from './listener-reads.js';
import type { ListenerServiceParts } from './listener-service-parts.js';
import { ListenerStates } from './listener-states.js';
import { ListenerWrites } from './listener-writes.js';
import type {
  CreateListenerInput,
  Listener,
  ListenerChangeOptions,
  ListenerFilter,
  ListenerHealth,
  ListenerWithSecret,
  UpdateListenerInput,
} from './listener.js';
import { ShownListeners } from './shown-listeners.js';
import { SigningKeys } from './signing-keys.js';
import type { EntityManager } from 'typeorm';

/**
 * Creates, reads and changes listeners. A listener says which events are sent to which URL. Listeners are stored in the database of the
 * entities.
 *
 * The injected service sees every listener. It is for the application itself. For requests of a customer, use `forOwner(id)`.
 * `forOwner(id)` returns a service that is bound to one owner.
 */
export class ListenerService {
  private readonly reads: ListenerReads;
  private readonly writes: ListenerWrites;
  private readonly states: ListenerStates;
  private readonly keys: ListenerKeys;
  private readonly changes: ListenerChanges;
  private readonly previews: ListenerPreviews;
  private readonly checks: ListenerChecks;

  /** @internal */
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo?: OwnerScope,
  ) {
    const signingKeys = new SigningKeys(parts);
    const shown = new ShownListeners(parts, boundTo, signingKeys);
    this.changes = new ListenerChanges(parts, boundTo, shown);
    this.checks = new ListenerChecks(parts, boundTo);
    this.previews = new ListenerPreviews(parts, boundTo, this.checks);
    this.reads = new ListenerReads(parts, boundTo, shown);
    this.writes = new ListenerWrites(parts, boundTo, shown, this.changes, signingKeys);
    this.states = new ListenerStates(parts, boundTo, shown, this.changes);
    this.keys = new ListenerKeys(parts, boundTo, this.changes, signingKeys);
  }

  /**
   * Returns this service bound to one owner. The returned service creates listeners of this owner. It does not find listeners
   * of other owners.
   *
   * @param owner a string. Numbers are not accepted, because a miscalculated number, such as `NaN`, would act as a
   * separate tenant
   * @throws InvalidListenerError `INVALID_OWNER`
   * @example await listeners.forOwner(user.id).list();
   */
  forOwner(owner: string): ListenerService {
    const bound = assertOwner(typeof owner === 'string' ? owner : undefined);
    if (this.boundTo !== undefined && bound !== this.boundTo) throw otherOwner();
    return new ListenerService(this.parts, bound);
  }

  /**
   * Returns this service inside a transaction. Changes by the returned service are committed or rolled back with the transaction. An
   * ambient transaction (`docs/transactions.md`) does not need this call.
   *
   * @param manager the argument of `dataSource.transaction()`, or `queryRunner.manager`. A manager outside a transaction has no effect
   * @throws TransactionError `WRONG_DATA_SOURCE`
   * @example await dataSource.transaction((manager) => listeners.withManager(manager).create({ events: ['order.*'], url }));
   */
  withManager(manager: EntityManager): ListenerService {
    return new ListenerService(
      { ...this.parts, transactions: this.parts.transactions.withManager(manager) },
      this.boundTo,
    );
  }

  /** Returns this service for changes by this person or program. The audit log has the name. `null`: the application itself. */
  withActor(actor: string | null): ListenerService {
    return new ListenerService({ ...this.parts, actor }, this.boundTo);
  }

  /**
   * Tries the event types and the filter of a listener on the newest stored events, before the listener is created or changed. A service
   * that is bound to an owner looks at the events that the owner may see.
   *
   * @throws the errors of {@link create} about `events` and `where`; BadRequestError `INVALID_LIMIT`, `INVALID_TIME`
   */
  preview(input: PreviewInput): Promise<ListenerPreview> {
    return this.previews.preview(input);
  }

  /**
   * Checks a URL as {@link create} does, before the listener is created: its form, its port, and the addresses of its host. A host name
   * without an address is accepted, because it may get one later.
   *
   * @returns the URL in the form in which it would be stored
   * @throws BadRequestError `INVALID_URL`, `URL_SCHEME`, `URL_CREDENTIALS`, `URL_ADDRESS_BLOCKED`, `URL_PORT_BLOCKED`
   */
  async checkUrl(url: string): Promise<string> {
    const checked = this.checks.urlOf(url);
    await this.parts.assertAddress(checked);
    return checked.href;
  }

  /** The names of the payload formats and signature schemes that a listener of this service may have. */
  choices(): { readonly formats: readonly string[]; readonly schemes: readonly string[] } {
    return this.checks.choices();
  }

  /**
   * Creates a listener. Only the result of this call contains the secret of the listener.
   *
   * @throws BadRequestError with the codes `INVALID_LISTENER`, `UNKNOWN_ENTITY`, `INVALID_EVENT_TYPE`, `UNKNOWN_EVENT_TYPE`,
   * `UNKNOWN_PROPERTY`, `UNKNOWN_OPERATOR`, `INVALID_FILTER`, `INVALID_URL`, `URL_SCHEME`, `URL_CREDENTIALS`,
   * `URL_ADDRESS_BLOCKED`, `URL_PORT_BLOCKED`, `INVALID_HEADER`, `INVALID_AUTH`, `INVALID_TLS`, `INVALID_CERTIFICATE`, `INVALID_PRIVATE_KEY`,
   * `CERTIFICATE_KEY_MISMATCH`, `CERTIFICATE_EXPIRED`, `INVALID_RATE_LIMIT`, `UNKNOWN_SCHEME`, `UNKNOWN_FORMAT`, `UNKNOWN_VERSION`, `INVALID_SECRET`,
   * `INVALID_OWNER`, `OWNER_NOT_DECLARED`, `HANDSHAKE_REQUIRED`, `HANDSHAKE_ORIGIN_MISSING`, `EXTERNAL_ID_TAKEN`; from an owner-bound
   * service also QuotaError `TOO_MANY_LISTENERS`
   * @example await listeners.create({ entity: User, where: { username: 'john' }, url, owner: String(john.id) });
   */
  create(input: CreateListenerInput): Promise<ListenerWithSecret> {
    return this.writes.create(input);
  }

  /** @throws ListenerNotFoundError */
  get(id: string): Promise<Listener> {
    return this.reads.get(id);
  }

  /**
   * Whether the requests of these listeners succeed, by the id of each listener.
   *
   * @param listeners the result of {@link get} or {@link list} of this service
   */
  health(listeners: readonly Listener[]): Promise<ReadonlyMap<string, ListenerHealth>> {
    return this.reads.health(listeners);
  }

  /**
   * Finds the listener with this `externalId` among the listeners of one owner.
   *
   * @param owner by default, the bound owner. A service that is not bound to an owner searches, by default, the listeners without an
   * owner
   * @returns `null` if there is no such listener
   * @throws InvalidListenerError `INVALID_LISTENER`, `INVALID_OWNER`
   */
  findByExternalId(externalId: string, owner?: string | number | bigint): Promise<Listener | null> {
    return this.reads.findByExternalId(externalId, owner);
  }

  /**
   * Lists listeners, the newest first. With `type`, `search` or `failing` a page may have fewer items than its limit, and still a next one.
   *
   * @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_OWNER`, `INVALID_EVENT_TYPE`
   */
  list(options: WebhookPageOptions & ListenerFilter = {}): Promise<WebhookPage<Listener>> {
    return this.reads.list(options);
  }

  /**
   * Changes the given properties. Properties that are `undefined` do not change. After a change of the URL, pending deliveries are sent to
   * the new URL, and the current secrets sign them. A new URL starts without failures and without a pause. If the URL or the handshake
   * changes, a listener with a handshake is `pending` until the handshake has passed.
   *
   * @param options `ifRevision`: change nothing if the listener was changed since the caller read this revision
   * @throws ListenerNotFoundError, InvalidListenerError `LISTENER_CHANGED`, and the errors of {@link create}
   */
  update(id: string, input: UpdateListenerInput, options: ListenerChangeOptions = {}): Promise<Listener> {
    return this.writes.update(id, input, options);
  }

  /**
   * Removes a listener and discards its pending deliveries. The log of its deliveries stays.
   *
   * @throws ListenerNotFoundError, InvalidListenerError `LISTENER_CHANGED`
   */
  remove(id: string, options: ListenerChangeOptions = {}): Promise<void> {
    return this.states.remove(id, options);
  }

  /**
   * Enables a disabled listener and resets its failures. A listener with a handshake becomes `pending`, and must pass the handshake again.
   * If the listener is already `pending`, the next handshake starts when the pause after the last handshake is over.
   *
   * @param options `held`: whether deliveries that were held while the listener was disabled are sent (`'release'`) or discarded
   * (`'discard'`) @defaultValue 'release'
   * @throws ListenerNotFoundError, InvalidListenerError `INVALID_LISTENER`, `LISTENER_CHANGED`
   */
  enable(id: string, options: { held?: 'release' | 'discard' } & ListenerChangeOptions = {}): Promise<Listener> {
    return this.states.enable(id, options);
  }

  /**
   * Disables a listener. Its pending deliveries and new events are held until you enable it again.
   *
   * @param reason the text for `disabledReason` of the listener. A text of more than 500 characters is cut off
   * @throws ListenerNotFoundError
   */
  disable(id: string, reason = 'disabled by the application'): Promise<Listener> {
    return this.states.disable(id, reason);
  }

  /**
   * Replaces the secret of a listener. Only the result of this call contains the new secret. For `overlapMs`, the old secret also
   * signs.
   *
   * @param options `secret`: the new secret @defaultValue 32 random bytes; `overlapMs`: from 0 to 30 days in ms, 0 after a leak
   * @defaultValue `secrets.rotationOverlapMs`
   * @throws ListenerNotFoundError; BadRequestError `INVALID_SECRET`, `INVALID_OVERLAP`, `TOO_MANY_SECRETS`; UnreadableSecretError if the
   * old secret cannot be read. In that case, rotate with `overlapMs: 0`
   */
  rotateSecret(id: string, options: { secret?: string; overlapMs?: number } = {}): Promise<ListenerWithSecret> {
    return this.keys.rotateSecret(id, options);
  }

  /**
   * Replaces the Ed25519 key of a listener, or adds its first key. Receivers verify with `publicKeys` of the result. For `overlapMs`, the
   * old key also signs. Private keys are never shown.
   *
   * @param options `privateKey`: `whsk_…`, for a key that several listeners share @defaultValue a new key; `overlapMs`: as for
   * {@link rotateSecret}
   * @throws ListenerNotFoundError; BadRequestError `INVALID_SECRET`, `INVALID_OVERLAP`, `TOO_MANY_SECRETS`; UnreadableSecretError if the old
   * key cannot be read. In that case, rotate with `overlapMs: 0`
   */
  rotateSigningKey(id: string, options: { privateKey?: string; overlapMs?: number } = {}): Promise<Listener> {
    return this.keys.rotateSigningKey(id, options);
  }

  /**
   * Returns the public keys of a listener as a JSON Web Key Set (RFC 7517). `WebhooksKeysModule` serves this set to receivers.
   *
   * @throws ListenerNotFoundError
   */
  async keySet(id: string): Promise<WebhookKeySet> {
    return keySetOf((await this.get(id)).publicKeys);
  }

  /**
   * Seals the secrets and credentials of all listeners, including removed listeners, with the first key of `secrets.keys`. Call this
   * method after you set keys for the first time, and before you remove an old key. The method also deletes secrets that no longer sign.
   * It works in batches while the application runs. You can repeat the call.
   *
   * @param options `dryRun`: whether to count the listeners without writing them @defaultValue false
   * @returns `resealed`: the number of written listeners; `unreadable`: the ids of listeners with a secret that cannot be
   * read
   * @throws InvalidListenerError `INVALID_OWNER` if the service is bound to an owner; TransactionError `NOT_TRANSACTIONAL` inside a
   * transaction
   */
  resealSecrets(options: { dryRun?: boolean } = {}): Promise<{ resealed: number; unreadable: string[] }> {
    return this.keys.resealSecrets(options);
  }

  /**
   * Deletes all rows of an owner, for example when a tenant leaves: listeners with their secrets, events, deliveries and attempts. The
   * method also deletes deliveries of the owner's events to listeners without an owner. The deletion cannot be undone. The method works
   * in batches, and waits for requests in flight. Do not write rows of the owner meanwhile. The method does not find images of triggers
   * that are not yet converted to events.
   *
   * @throws InvalidListenerError `INVALID_OWNER`. A service that is bound to an owner always throws this error
   * @example await listeners.eraseOwner(tenant.id);
   */
  async eraseOwner(owner: string): Promise<ErasedOwner> {
    if (this.boundTo !== undefined) throw otherOwner();
    const { actor, database, clock } = this.parts;
    return eraseOwner(database, clock, assertOwner(typeof owner === 'string' ? owner : undefined), actor);
  }

  /**
   * Sends a test event to this listener only. The types and the filter of the listener do not apply. The test event has the format of the
   * listener. It is logged and retried like any other event. Its body has `"test": true` beside `type`. Its request has the header
   * `webhook-test: true`.
   *
   * @param options `version`: an offered version of the type @defaultValue the version of the listener; `type`: the type of the example. Its `data` is the first of the `examples` of the entity or of the published type, or
   * is made up from the types of the columns @defaultValue 'webhook.test'
   * @returns the id of the delivery, for `deliveries.get(deliveryId)`
   * @throws ListenerNotFoundError; InvalidListenerError `LISTENER_DISABLED`, `LISTENER_PENDING`; BadRequestError `UNKNOWN_EVENT_TYPE`,
   * `INVALID_EVENT_TYPE`, `OWNER_NOT_DECLARED`, `UNKNOWN_VERSION`; from an owner-bound service also QuotaError `TOO_MANY_TESTS`
   */
  async sendTest(id: string, options: { type?: string; version?: number } = {}): Promise<{ deliveryId: string }> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    const row = found(await transaction.run(() => readListener(database, textOf(id), scope)), id);
    if (row.state === 'pending') {
      throw new InvalidListenerError('LISTENER_PENDING', LISTENER_PENDING_MESSAGE, { httpStatus: 409 });
    }
    if (row.state !== 'active') {
      throw new InvalidListenerError('LISTENER_DISABLED', LISTENER_DISABLED_MESSAGE, { httpStatus: 409 });
    }
    const example = this.testExample(row, options);
    this.parts.quotas.countTest(this.boundTo);
    const deliveryId = await transaction.run(() => this.parts.sendTest(row, example, this.parts.actor ?? null));
    this.changes.wake(transaction);
    return { deliveryId };
  }

  /** @throws as {@link sendTest} */
  private testExample({ id, owner }: ListenerRow, { type, version }: { type?: string; version?: number }): TestExample {
    const { catalog, versions } = this.parts;
    const example = type === undefined ? null : catalog.exampleOf(textOf(type), owner !== null);
    const sent = type === undefined ? TEST_EVENT_TYPE : textOf(type);
    const of = example ?? { version: 1, data: { test: true, listenerId: id } };
    if (version === undefined) return { type: sent, ...of };
    versions.assertVersion(sent, version, 'version');
    return { type: sent, ...of, versions: writePins({ [sent]: version }) };
  }
}
