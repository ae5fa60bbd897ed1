import type { EntityManager } from 'typeorm';
import type { AddressGuard } from '../sending/address-guard.js';
import { assertListenerHeaders } from '../sending/listener-headers.js';
import { assertListenerUrl } from '../sending/listener-url.js';
import { assertSigningKey, keySetOf, type WebhookKeySet } from '../signing/ed25519-key.js';
import { generateSecret, MIN_SECRET_BYTES } from '../signing/secret.js';
import type { SignatureScheme } from '../signing/signature-scheme.js';
import type { WebhookClock } from '../clock.js';
import { newId } from '../ids.js';
import { INVALID_OWNER_MESSAGE, OTHER_OWNER_MESSAGE, ownerText } from '../owner.js';
import type { ResolvedWebhooksOptions } from '../options/resolve-options.js';
import type { CallerTransaction, CallerTransactions } from '../store/database/caller-transactions.js';
import type { Database } from '../store/database/database.js';
import { isUniqueViolation } from '../store/database/database-errors.js';
import {
  DISCARD_BATCH,
  externalKeyOf,
  readByExternalKey,
  disableListener,
  discardDue,
  countListeners,
  insertListener,
  lastSequence,
  listListeners,
  lockListener,
  readListener,
  removeListener,
  resealListeners,
  resumeListener,
  updateListener,
  type ListenerRow,
  type ListenerValues,
  type OwnerScope,
  type ResealedPage,
} from '../store/listeners/listener-rows.js';
import { page, readPage, type WebhookPage, type WebhookPageOptions } from '../store/database/page.js';
import type { Script } from '../store/database/script.js';
import { TEST_EVENT_TYPE, type TestExample } from '../store/queue/test-event.js';
import type { JsonObject } from '../json.js';
import { BadRequestError, hintForApplication } from '../errors.js';
import { knownNames, listedNames } from '../known-names.js';
import { Credentials } from './credentials.js';
import {
  InvalidListenerError,
  LISTENER_DISABLED_MESSAGE,
  LISTENER_PENDING_MESSAGE,
  ListenerNotFoundError,
} from '../listener-errors.js';
import type { EventCatalog } from './event-catalog.js';
import { compileFilter, type Filter } from '../routing/filter.js';
import { handshakeOf, type HandshakeRules, handshakeChange } from './handshake/handshake-choice.js';
import type { Handshake } from '../options/handshake-methods.js';
import { checkShape, CreateListenerDto, UpdateListenerDto } from './listener.dto.js';
import type {
  CreateListenerInput,
  Listener,
  ListenerInput,
  ListenerReferences,
  ListenerWithSecret,
  UpdateListenerInput,
  Where,
} from './listener.js';
import { assertExternalId, storedReferences } from './listener-references.js';
import { shownAuth } from './credentials/listener-auth.js';
import { shownTls } from './credentials/listener-tls.js';
import { type RateLimit, writeRateLimit } from '../health/rate-limit.js';
import { routesOf } from '../routing/route-key.js';
import type { Sealing } from '../secrets/sealing.js';
import { SigningKeys } from './signing-keys.js';
import { textOf } from '../foreign-text.js';
import type { Quotas } from '../quotas.js';
import { eraseOwner, type ErasedOwner } from './erase-owner.js';
import { DAY } from '../time.js';

/** What a {@link ListenerService} needs. @internal */
export interface ListenerServiceParts {
  readonly database: Database;
  readonly transactions: CallerTransactions;
  readonly catalog: EventCatalog;
  readonly clock: WebhookClock;
  readonly guard: AddressGuard;
  /** Resolves the name in a URL. @throws BadRequestError `URL_ADDRESS_BLOCKED` */
  readonly assertAddress: (url: URL) => Promise<void>;
  readonly options: ResolvedWebhooksOptions;
  readonly schemes: ReadonlyMap<string, SignatureScheme>;
  readonly sealing: Sealing;
  readonly quotas: Quotas;
  readonly formats: ReadonlySet<string>;
  /** The schemes and formats that owner-bound services accept. */
  readonly customers: { readonly formats: ReadonlySet<string>; readonly schemes: ReadonlySet<string> };
  /** Stores an example event for one listener. @returns the id of its delivery */
  readonly sendTest: (listener: ListenerRow, example: TestExample) => Script<string>;
  /** Wakes the dispatcher, because deliveries may be due. */
  readonly wake: () => void;
  readonly disabled: (listener: Listener) => void;
  readonly warn: (message: string) => void;
}

const STATES: readonly Listener['state'][] = ['active', 'pending', 'disabled'];
/** Properties that only the application may set. Errors of owner-bound services do not list them. */
const REFERENCES: readonly (keyof ListenerReferences)[] = ['externalId', 'metadata'];
const CREATED_BY_APPLICATION: readonly (keyof CreateListenerInput)[] = [
  ...REFERENCES,
  ...(['owner', 'entity', 'property', 'value', 'privateKey'] as const),
];
const MAX_REASON_LENGTH = 500;
const SHOWN_TIME_MS = 10_000;
/** The maximum of `secrets.rotationOverlapMs`. */
const MAX_OVERLAP_MS = 30 * DAY;

/**
 * Creates, reads and changes listeners. A listener says which events are sent to which URL. Listeners are stored in the database of the
 * entities.
 *
 * The injected service sees every listener and is for the application itself. For requests of a customer use `forOwner(id)`, which returns
 * a service that is bound to one owner.
 */
export class ListenerService {
  private readonly credentials: Credentials;
  private readonly keys: SigningKeys;

  /** @internal */
  constructor(
    private readonly parts: ListenerServiceParts,
    private readonly boundTo: OwnerScope = undefined,
  ) {
    this.credentials = new Credentials(parts);
    this.keys = new SigningKeys(parts);
  }

  /**
   * Returns this service bound to one owner. It creates listeners of this owner, and listeners of other owners do not exist for it.
   *
   * @param owner a string. Numbers are not accepted: a miscalculated number, such as `NaN`, would act as a separate tenant
   * @throws InvalidListenerError `INVALID_OWNER`
   * @example await listeners.forOwner(user.id).list();
   */
  forOwner(owner: string): ListenerService {
    const bound = assertOwner(typeof owner === 'string' ? owner : undefined);
    if (this.boundTo !== undefined && bound !== this.boundTo) throw otherOwner();
    return new ListenerService(this.parts, bound);
  }

  /**
   * Returns this service inside a transaction. Its changes are committed or rolled back with the transaction. An ambient transaction
   * (`docs/transactions.md`) does not need this call.
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

  /**
   * Creates a listener. Only the result of this call contains its secret.
   *
   * @throws BadRequestError with the codes `INVALID_LISTENER`, `UNKNOWN_ENTITY`, `INVALID_EVENT_TYPE`, `UNKNOWN_EVENT_TYPE`,
   * `UNKNOWN_PROPERTY`, `UNKNOWN_OPERATOR`, `INVALID_FILTER`, `INVALID_URL`, `URL_SCHEME`, `URL_CREDENTIALS`,
   * `URL_ADDRESS_BLOCKED`, `URL_PORT_BLOCKED`, `INVALID_HEADER`, `INVALID_AUTH`, `INVALID_TLS`, `INVALID_CERTIFICATE`, `INVALID_PRIVATE_KEY`,
   * `CERTIFICATE_KEY_MISMATCH`, `CERTIFICATE_EXPIRED`, `INVALID_RATE_LIMIT`, `UNKNOWN_SCHEME`, `UNKNOWN_FORMAT`, `INVALID_SECRET`,
   * `INVALID_OWNER`, `OWNER_NOT_DECLARED`, `HANDSHAKE_REQUIRED`, `HANDSHAKE_ORIGIN_MISSING`, `EXTERNAL_ID_TAKEN`; from an owner-bound
   * service also QuotaError `TOO_MANY_LISTENERS`
   * @example await listeners.create({ entity: User, where: { username: 'john' }, url, owner: String(john.id) });
   */
  async create(input: CreateListenerInput): Promise<ListenerWithSecret> {
    const transaction = this.parts.transactions.here();
    assertInput(input);
    const { entity, property, value, owner: givenOwner, privateKey, externalId, metadata, ...rest } = input;
    const listenerInput: ListenerInput = { ...rest };
    const isOwned = this.boundTo !== undefined || (givenOwner ?? null) !== null;
    if (entity !== undefined) listenerInput.events = this.entityEvents(entity, rest.events, isOwned);
    if (property !== undefined || value !== undefined) listenerInput.where = shortForm(property, value, rest.where);
    checkShape(
      CreateListenerDto,
      withoutUndefined(listenerInput),
      this.boundTo === undefined ? CREATED_BY_APPLICATION : [],
    );
    const owner = this.ownerOf(givenOwner);
    const secret = listenerInput.secret ?? generateSecret();
    const now = this.parts.clock.now();
    const subscription = this.subscription(listenerInput.events ?? [], listenerInput.where ?? {}, owner);
    const id = newId('lst');
    const delivering = this.delivering(listenerInput);
    const handshake = handshakeOf(listenerInput.handshake ?? null, this.handshakeRules);
    const schemes = JSON.parse(delivering.schemes) as string[];
    const values: ListenerValues = {
      id,
      owner,
      ...subscription.values,
      ...delivering,
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
      state: handshake === 'none' ? 'active' : 'pending',
      disabledReason: null,
    };
    await this.parts.assertAddress(new URL(values.url));
    await this.credentials.assertTokenAddress(values.auth);
    const { database, quotas } = this.parts;
    const scope = this.boundTo;
    const seen = await this.committedSequence(transaction);
    const row = await writeListener(transaction, function* () {
      if (scope !== undefined) quotas.assertMayCreate(yield* countListeners(database, scope));
      yield* assertUnique(database, values.externalKey, id);
      yield* insertListener(database, values, subscription.routes, now, seen);
      return yield* readListener(database, values.id, undefined);
    });
    if (values.state === 'pending') this.wake(transaction);
    this.warnOfShort(id, secret);
    return { ...this.toListener(found(row, values.id)), secret };
  }

  /** @throws ListenerNotFoundError */
  async get(id: string): Promise<Listener> {
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const scope = this.boundTo;
    return this.toListener(found(await transaction.run(() => readListener(database, textOf(id), scope)), id));
  }

  /**
   * Finds the listener with this `externalId` among the listeners of one owner.
   *
   * @param owner by default, the bound owner. A service without an owner searches the listeners without an owner by default
   * @returns `null` if there is no such listener
   * @throws InvalidListenerError `INVALID_LISTENER`, `INVALID_OWNER`
   */
  async findByExternalId(externalId: string, owner?: string | number | bigint): Promise<Listener | null> {
    assertExternalId(externalId);
    const { database } = this.parts;
    const transaction = this.parts.transactions.here();
    const key = externalKeyOf(this.ownerOf(owner), externalId);
    const row = await transaction.run(() => readByExternalKey(database, key));
    return row ? this.toListener(row) : null;
  }

  /** Lists listeners, the newest first. @throws BadRequestError `INVALID_LIMIT`, `INVALID_CURSOR`, `INVALID_STATE`, `INVALID_OWNER` */
  async list(
    options: WebhookPageOptions & { state?: Listener['state']; owner?: string } = {},
  ): Promise<WebhookPage<Listener>> {
    const { limit, after } = readPage(options);
    const { state } = options;
    if (state !== undefined && !STATES.includes(state)) {
      throw new BadRequestError(
        'INVALID_STATE',
        `Invalid \`state\`. Allowed: ${STATES.map((known) => `'${known}'`).join(', ')}.`,
      );
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
      (row) => this.toListener(row),
    );
  }

  /**
   * Changes the given properties. Properties that are `undefined` stay as they are. Pending deliveries are sent to a new URL, signed with the
   * current secrets. A new URL starts without failures and without a pause. If the URL or the handshake changes, a listener with a handshake
   * is `pending` until the handshake has passed.
   *
   * @throws ListenerNotFoundError, and the errors of {@link create}
   */
  async update(id: string, input: UpdateListenerInput): Promise<Listener> {
    const transaction = this.parts.transactions.here();
    assertInput(input);
    const { externalId, metadata, ...rest } = input;
    const given = withoutUndefined(rest);
    checkShape(UpdateListenerDto, given, this.boundTo === undefined ? REFERENCES : []);
    if (given.url !== undefined) await this.parts.assertAddress(this.urlOf(given.url));
    if (given.auth) await this.credentials.assertTokenAddress(this.credentials.authOf(textOf(id), given.auth, ''));
    const tls = this.credentials.checkedTls(given.tls);
    const { database, clock } = this.parts;
    const listener = await this.change(
      transaction,
      id,
      (row) => {
        const { events, where, ...present } = this.toListener(row);
        // As in `create`, `null` stands for the default.
        const merged = { ...present, ...given };
        const delivering = this.delivering(merged, present);
        const values = {
          ...delivering,
          ...this.keys.changed(row, given.schemes),
          ...this.credentials.changedAuth(row, given),
          ...this.credentials.changedTls(row, given.url, tls),
          ...handshakeChange(row, delivering.url, given.handshake, this.handshakeRules),
        };
        Object.assign(values, storedReferences(row.owner, { externalId, metadata }));
        if (given.events === undefined && given.where === undefined) return { values, routes: null };
        const subscribed = { events, where, ...given };
        const subscription = this.subscription(subscribed.events ?? [], subscribed.where ?? {}, row.owner);
        return { values: { ...values, ...subscription.values }, routes: subscription.routes };
      },
      function* (before, { state, url }) {
        const isNewUrl = url !== before.url;
        const isSameState = state === undefined || (state === 'active' && before.state === 'active');
        if (before.state === 'disabled' || (isSameState && !isNewUrl)) return;
        const now = clock.now();
        yield* resumeListener(database, before.id, state === 'pending' ? now : null, isNewUrl ? now : null);
      },
    );
    this.wake(transaction);
    return listener;
  }

  /** Removes a listener and discards its pending deliveries. The log of its deliveries stays. @throws ListenerNotFoundError */
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

  /**
   * Enables a disabled listener and resets its failures. A listener with a handshake becomes `pending` and must pass the handshake again. If
   * it is `pending` already, the next handshake starts when the pause after the last one is over.
   *
   * @param options `held`: whether deliveries that were held while the listener was disabled are sent (`'release'`) or discarded
   * (`'discard'`) @defaultValue 'release'
   * @throws ListenerNotFoundError, InvalidListenerError `INVALID_LISTENER`
   */
  async enable(id: string, options: { held?: 'release' | 'discard' } = {}): Promise<Listener> {
    const { held = 'release' } = options;
    if (held !== 'release' && held !== 'discard') {
      throw new InvalidListenerError('INVALID_LISTENER', "Invalid `held`. Allowed: 'release', 'discard'.");
    }
    const { database, clock } = this.parts;
    const transaction = this.parts.transactions.here();
    if (held === 'discard' && (await this.get(id)).state !== 'active') await this.discardAll(transaction, textOf(id));
    const listener = await this.change(
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
    this.wake(transaction);
    return listener;
  }

  /**
   * Disables a listener. Its pending deliveries and new events are held until you enable it again.
   *
   * @param reason shown as `disabledReason`; at most 500 characters, more are cut off
   * @throws ListenerNotFoundError
   */
  async disable(id: string, reason = 'disabled by the application'): Promise<Listener> {
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
    const listener = this.toListener(found(row, id));
    if (wasActive) transaction.afterCommit(() => this.parts.disabled(listener));
    return listener;
  }

  /**
   * Replaces the secret of a listener. Only the result of this call contains the new secret. The old secret also signs for `overlapMs`.
   *
   * @param options `secret`: the new secret @defaultValue 32 random bytes; `overlapMs`: from 0 to 30 days in ms, 0 after a leak
   * @defaultValue `secrets.rotationOverlapMs`
   * @throws ListenerNotFoundError; BadRequestError `INVALID_SECRET`, `INVALID_OVERLAP`, `TOO_MANY_SECRETS`; UnreadableSecretError if the
   * old secret cannot be read: then rotate with `overlapMs: 0`
   */
  async rotateSecret(id: string, options: { secret?: string; overlapMs?: number } = {}): Promise<ListenerWithSecret> {
    const overlapMs = this.overlapOf(options.overlapMs);
    const secret = options.secret ?? generateSecret();
    const listener = await this.changeKeys(id, (row) => this.keys.withSecret(row, secret, overlapMs));
    this.warnOfShort(listener.id, secret);
    return { ...listener, secret };
  }

  /**
   * Replaces the Ed25519 key of a listener, or adds its first key. Receivers verify with `publicKeys` of the result. The old key also signs
   * for `overlapMs`. Private keys are never shown.
   *
   * @param options `privateKey`: `whsk_…`, for a key that several listeners share @defaultValue a new key; `overlapMs`: as for
   * {@link rotateSecret}
   * @throws ListenerNotFoundError; BadRequestError `INVALID_SECRET`, `INVALID_OVERLAP`, `TOO_MANY_SECRETS`; UnreadableSecretError if the old
   * key cannot be read: then rotate with `overlapMs: 0`
   */
  async rotateSigningKey(id: string, options: { privateKey?: string; overlapMs?: number } = {}): Promise<Listener> {
    const overlapMs = this.overlapOf(options.overlapMs);
    if (options.privateKey !== undefined) assertSigningKey(options.privateKey);
    return this.changeKeys(id, (row) => this.keys.withPair(row, options.privateKey, overlapMs));
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
   * Seals the secrets and credentials of all listeners, also of removed ones, with the first key of `secrets.keys`. Run it after you set keys
   * for the first time, and before you remove an old key. It also deletes secrets that no longer sign. It works in batches while the
   * application runs, and can be repeated.
   *
   * @returns `resealed`: how many listeners were written; `unreadable`: ids of listeners with a secret that cannot be read
   * @throws InvalidListenerError `INVALID_OWNER` if the service is bound to an owner; TransactionError `NOT_TRANSACTIONAL` inside a
   * transaction
   */
  async resealSecrets(): Promise<{ resealed: number; unreadable: string[] }> {
    if (this.boundTo !== undefined) throw otherOwner();
    const { database, sealing, clock, transactions } = this.parts;
    transactions.here().refuse('resealSecrets()');
    const total = { resealed: 0, unreadable: [] as string[] };
    for (let after: string | null = '0'; after !== null;) {
      const options = { sealing, now: clock.now(), after };
      const page: ResealedPage = await database.transaction(() => resealListeners(database, options));
      total.resealed += page.resealed;
      total.unreadable.push(...page.unreadable);
      after = page.last;
    }
    return total;
  }

  /**
   * Deletes all rows of an owner, as when a tenant leaves: listeners with their secrets, events, deliveries and attempts, also those of
   * the owner's events to listeners without an owner. This cannot be undone. It works in batches, and waits for requests in flight. Do
   * not write rows of the owner meanwhile. It does not find images of triggers that are not converted yet.
   *
   * @throws InvalidListenerError `INVALID_OWNER`, also when called on a service that is bound to an owner
   * @example await listeners.eraseOwner(tenant.id);
   */
  async eraseOwner(owner: string): Promise<ErasedOwner> {
    if (this.boundTo !== undefined) throw otherOwner();
    const { database, clock } = this.parts;
    return eraseOwner(database, clock, assertOwner(typeof owner === 'string' ? owner : undefined));
  }

  /**
   * Sends a test event to this listener only. The types and the filter of the listener do not matter. The test event has the format of the
   * listener, and is logged and retried like any event. Its body has `"test": true` beside `type`, which is signed, and its request has the
   * header `webhook-test: true`.
   *
   * @param options `type`: the type of the example. Its `data` is the `example` of the entity or of the published type, or is made up from
   * the types of the columns @defaultValue 'webhook.test'
   * @returns the id of the delivery, for `deliveries.get(deliveryId)`
   * @throws ListenerNotFoundError; InvalidListenerError `LISTENER_DISABLED`, `LISTENER_PENDING`; BadRequestError `UNKNOWN_EVENT_TYPE`,
   * `INVALID_EVENT_TYPE`, `OWNER_NOT_DECLARED`; from an owner-bound service also QuotaError `TOO_MANY_TESTS`
   */
  async sendTest(id: string, options: { type?: string } = {}): Promise<{ deliveryId: string }> {
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
    const { type } = options;
    const example =
      type === undefined
        ? { type: TEST_EVENT_TYPE, data: { test: true, listenerId: row.id } }
        : { type, ...this.parts.catalog.exampleOf(textOf(type), row.owner !== null) };
    this.parts.quotas.countTest(this.boundTo);
    const deliveryId = await transaction.run(() => this.parts.sendTest(row, example));
    this.wake(transaction);
    return { deliveryId };
  }

  /** Some schemes accept any text, so that receivers can keep an old secret. Such a secret may be a short word. */
  private warnOfShort(id: string, secret: string): void {
    const bytes = Buffer.byteLength(secret);
    if (bytes >= MIN_SECRET_BYTES) return;
    this.parts.warn(
      `The secret of listener ${id} has ${bytes} bytes. Anyone who sees a signed request can guess a secret below ${MIN_SECRET_BYTES} bytes. Rotate it to a longer secret.`,
    );
  }

  private overlapOf(given: number | undefined): number {
    const overlapMs = given ?? this.parts.options.secrets.rotationOverlapMs;
    if (Number.isSafeInteger(overlapMs) && overlapMs >= 0 && overlapMs <= MAX_OVERLAP_MS) return overlapMs;
    throw new InvalidListenerError(
      'INVALID_OVERLAP',
      `Invalid \`overlapMs\`. Allowed: a whole number of milliseconds from 0 to ${MAX_OVERLAP_MS} (30 days).`,
    );
  }

  private changeKeys(id: string, secretsOf: (row: ListenerRow) => string): Promise<Listener> {
    return this.change(this.parts.transactions.here(), id, (row) => ({
      values: { secrets: secretsOf(row) },
      routes: null,
    }));
  }

  private toListener(row: ListenerRow): Listener {
    const listener = toListener(row);
    return {
      ...listener,
      pausedUntil: Number(listener.pausedUntil) > this.parts.clock.now() ? this.shownTime(listener.pausedUntil) : null,
      nextAttemptAt: this.shownTime(listener.nextAttemptAt),
      publicKeys: this.keys.publicKeysOf(row, listener.schemes),
    };
  }

  /** Customers see rounded times: the duration of a blocked attempt would reveal which hosts the internal network has. */
  private shownTime(at: Date | null): Date | null {
    if (at === null || this.boundTo === undefined) return at;
    return new Date(Math.ceil(Number(at) / SHOWN_TIME_MS) * SHOWN_TIME_MS);
  }

  /** Wakes the dispatcher after the commit. */
  private wake(transaction: CallerTransaction): void {
    transaction.afterCommit(this.parts.wake);
  }

  /** The sequence of the newest committed event. It is read outside the transaction, whose snapshot may be older. */
  private committedSequence({ runner }: CallerTransaction): Promise<unknown> {
    const { database } = this.parts;
    // SQLite allows one writer, and this transaction is the writer.
    if (database.dialect === 'sqlite' || !runner) return Promise.resolve(0);
    return database.single(() => lastSequence(database));
  }

  /** Works in batches, so that other statements wait only briefly. If this process dies meanwhile, the next claim discards the rest. */
  private async discardAll(transaction: CallerTransaction, id: string): Promise<void> {
    const { database, clock } = this.parts;
    const options = { now: clock.now(), limit: DISCARD_BATCH };
    while ((await transaction.run(() => discardDue(database, id, options))) === DISCARD_BATCH);
  }

  private async change(
    transaction: CallerTransaction,
    id: string,
    changeOf: (row: ListenerRow) => {
      values: Partial<ListenerValues>;
      routes: ReturnType<typeof routesOf> | null;
    },
    andThen?: (before: ListenerRow, values: Partial<ListenerValues>) => Script<void>,
  ): Promise<Listener> {
    const { database, clock } = this.parts;
    const scope = this.boundTo;
    const row = await writeListener(transaction, function* () {
      const before = found(yield* lockListener(database, textOf(id), scope), id);
      const { values, routes } = changeOf(before);
      yield* assertUnique(database, values.externalKey ?? null, textOf(id));
      yield* updateListener(database, textOf(id), values, routes, clock.now());
      if (andThen) yield* andThen(before, values);
      return yield* readListener(database, textOf(id), scope);
    });
    return this.toListener(found(row, id));
  }

  private subscription(events: readonly string[], where: Where, owner: string | null) {
    if (!events.length) {
      throw new InvalidListenerError(
        'INVALID_LISTENER',
        "`events` is missing. Allowed: a list of event types such as 'order.created', or of patterns such as 'order.*'.",
      );
    }
    const patterns = [...new Set(events)];
    this.parts.catalog.checkPatterns(patterns, owner !== null);
    const filter: Filter = compileFilter(where, this.parts.catalog.fieldsOf(patterns, owner !== null));
    return {
      values: {
        patterns: JSON.stringify(patterns),
        filter: JSON.stringify(filter),
        definition: JSON.stringify(where, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
      },
      routes: routesOf({ owner, patterns, filter }),
    };
  }

  private delivering(
    input: Omit<ListenerInput, 'events' | 'where' | 'secret' | 'auth' | 'tls'>,
    before?: Pick<Listener, 'format' | 'schemes'>,
  ) {
    const url = this.urlOf(input.url);
    const schemes = [...new Set(input.schemes ?? ['standard'])];
    const format = input.format ?? 'standard';
    this.assertKnown({ schemes, format }, before);
    return {
      url: url.href,
      name: input.name ?? null,
      description: input.description ?? null,
      headers: JSON.stringify(assertListenerHeaders(input.headers ?? {})),
      schemes: JSON.stringify(schemes),
      format,
      ordering: input.ordering ?? 'none',
      sequence: input.sequence ? 1 : 0,
      rateLimit: writeRateLimit(input.rateLimit),
    };
  }

  /**
   * An owner-bound service accepts the schemes and formats that customers may choose, and those that the listener has already. Other schemes
   * and formats do not exist for it.
   *
   * @param before the listener before a change
   */
  private assertKnown(
    { schemes, format }: Pick<Listener, 'format' | 'schemes'>,
    before?: Pick<Listener, 'format' | 'schemes'>,
  ): void {
    const { schemes: known, formats, customers } = this.parts;
    const isOwnerBound = this.boundTo !== undefined;
    const knownSchemes = isOwnerBound ? customers.schemes : new Set(known.keys());
    const knownFormats = isOwnerBound ? customers.formats : formats;
    const mayKeep = (scheme: string) => known.has(scheme) && before?.schemes.includes(scheme);
    const unknown = schemes.find((scheme) => !knownSchemes.has(scheme) && !mayKeep(scheme));
    if (unknown !== undefined) {
      throw unknownPart('UNKNOWN_SCHEME', 'signature scheme', { given: unknown, known: knownSchemes });
    }
    if (knownFormats.has(format) || (formats.has(format) && before?.format === format)) return;
    throw unknownPart('UNKNOWN_FORMAT', 'payload format', { given: format, known: knownFormats });
  }

  private get handshakeRules(): HandshakeRules {
    return { options: this.parts.options.handshake, isOwnerBound: this.boundTo !== undefined };
  }

  private urlOf(url: string): URL {
    return assertListenerUrl(url, this.parts.guard, this.parts.options.security);
  }

  private entityEvents(
    entity: NonNullable<CreateListenerInput['entity']>,
    events: readonly string[] | undefined,
    isOwned: boolean,
  ) {
    if (events !== undefined) {
      throw new InvalidListenerError('INVALID_LISTENER', '`entity` and `events` exclude each other. Give one of them.');
    }
    return [this.parts.catalog.patternOf(entity, isOwned)];
  }

  private ownerOf(given: CreateListenerInput['owner']): string | null {
    const owner = given === undefined || given === null ? null : assertOwner(given);
    if (this.boundTo === undefined) return owner;
    if (owner !== null && owner !== this.boundTo) throw otherOwner();
    return this.boundTo;
  }
}

function unknownPart(
  code: 'UNKNOWN_SCHEME' | 'UNKNOWN_FORMAT',
  kind: string,
  { given, known }: { given: string; known: ReadonlySet<string> },
): InvalidListenerError {
  const names = [...known];
  return new InvalidListenerError(code, `There is no ${kind} '${given.slice(0, 64)}'.${knownNames(given, names)}`, {
    details: { known: listedNames(names) },
    ...hintForApplication(
      code,
      'Register your own in WebhooksModule.forRoot({ parts }). The option `customers` lists those that customers may choose.',
    ),
  });
}

/** @throws InvalidListenerError `EXTERNAL_ID_TAKEN`. If two transactions race, the unique index decides */
function* assertUnique(database: Database, key: Buffer | null, id: string): Script<void> {
  const taken = key && (yield* readByExternalKey(database, key));
  if (taken && taken.id !== id) throw externalIdTaken();
}

/** Runs a script that writes a listener. Only `externalId` can violate a unique index, because ids are new. */
async function writeListener<T>(transaction: CallerTransaction, script: () => Script<T>): Promise<T> {
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

function otherOwner(): InvalidListenerError {
  return new InvalidListenerError('INVALID_OWNER', OTHER_OWNER_MESSAGE);
}

function assertOwner(owner: unknown): string {
  const text = ownerText(owner);
  if (text === undefined) {
    throw new InvalidListenerError(
      'INVALID_OWNER',
      INVALID_OWNER_MESSAGE,
      hintForApplication('INVALID_OWNER', 'To create a listener of the application itself, leave `owner` out.'),
    );
  }
  return text;
}

/** Checks what the types cannot ensure, because the input may be a JSON body. */
function assertInput(input: unknown): void {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new InvalidListenerError(
      'INVALID_LISTENER',
      'The listener is not valid. Allowed: an object with the properties of a listener.',
    );
  }
  // JSON can contain keys such as `__proto__`. Code that copies or reads objects would confuse them with inherited members.
  const inherited = Object.keys(input).find((key) => key in Object.prototype);
  if (inherited === undefined) return;
  throw new InvalidListenerError(
    'INVALID_LISTENER',
    `The listener is not valid: there is no property '${inherited}'.`,
    {
      details: { properties: [inherited] },
    },
  );
}

function shortForm(property: string | undefined, value: unknown, where: Where | undefined): Where {
  if (where !== undefined) {
    throw new InvalidListenerError(
      'INVALID_LISTENER',
      '`property` and `value` exclude `where`. Give one of the two forms.',
    );
  }
  // In this older form no property means every row. A value without a property is probably a mistake.
  if (property === undefined || property === '') {
    if (value === undefined || value === null || value === '') return {};
    throw new InvalidListenerError(
      'INVALID_FILTER',
      '`property` is missing, but `value` is given. For every row leave out both.',
    );
  }
  if (value === undefined) {
    throw new InvalidListenerError(
      'INVALID_FILTER',
      '`value` is missing, but `property` is given. For every row leave out both.',
    );
  }
  return { [property]: value as Where[string] };
}

function found(row: ListenerRow | undefined, id: string): ListenerRow {
  if (!row) throw new ListenerNotFoundError(textOf(id));
  return row;
}

/** Removes NUL, which PostgreSQL's `text` does not accept. */
function storable(text: string): string {
  return textOf(text).replaceAll('\0', '');
}

function withoutUndefined<T extends object>(input: T): T {
  return Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined)) as T;
}

function toListener(row: ListenerRow): Listener {
  return {
    id: row.id,
    owner: row.owner,
    url: row.url,
    events: JSON.parse(row.patterns) as string[],
    where: JSON.parse(row.definition) as Where,
    name: row.name,
    externalId: row.externalId,
    metadata: row.metadata === null ? null : (JSON.parse(row.metadata) as JsonObject),
    description: row.description,
    headers: JSON.parse(row.headers) as Record<string, string>,
    schemes: JSON.parse(row.schemes) as string[],
    publicKeys: [],
    auth: shownAuth(row.auth),
    tls: shownTls(row.tls),
    format: row.format,
    ordering: row.ordering as Listener['ordering'],
    sequence: Number(row.sequence) === 1,
    rateLimit: row.rateLimit === null ? null : (JSON.parse(row.rateLimit) as RateLimit),
    handshake: row.handshake as Handshake,
    handshakeError: row.handshakeError,
    allowedRate: row.allowedRate === null ? null : Number(row.allowedRate),
    state: row.state as Listener['state'],
    disabledReason: row.disabledReason,
    failuresInARow: Number(row.failuresInARow ?? 0),
    failingSince: dateOrNull(row.failingSince),
    pausedUntil: dateOrNull(row.pausedUntil),
    nextAttemptAt: row.state === 'disabled' ? null : dateOrNull(row.readyAt),
    createdAt: new Date(Number(row.createdAt)),
    updatedAt: new Date(Number(row.updatedAt)),
  };
}

function dateOrNull(milliseconds: unknown): Date | null {
  return milliseconds === null || milliseconds === undefined ? null : new Date(Number(milliseconds));
}
