import type { Capability } from '../api/access.js';
import type { UrlVerdict } from '../api/url-verdict.js';
import type { SessionPage } from '../api/session-page.js';
import type { CatalogType } from '../catalog/catalog-type.js';
import type { Delivery, DeliveryDetails, DeliveryState } from '../deliveries/delivery.js';
import type { StoredEvent, StoredEventSummary } from '../deliveries/event.service.js';
import type { SkippedListener } from '../deliveries/skipped-listeners.js';
import type { Task, TaskCount, TaskKind, TaskState } from '../deliveries/task.js';
import type { JsonObject } from '../json.js';
import type {
  CreateListenerInput,
  Listener,
  ListenerHealth,
  ListenerWithSecret,
  UpdateListenerInput,
} from '../listeners/listener.js';
import type { ListenerPreview, PreviewInput } from '../listeners/listener-preview.js';
import type { AuditAction } from '../store/system/audit.js';
import type { AuditItem } from '../system/audit-log.js';
import type { Statistics, StatsBy, StatsStep } from '../system/statistics.js';
import type {
  DamagedItem,
  DispatcherProcess,
  FailingListenerSummary,
  Sending,
  SystemChore,
  SystemOverview,
} from '../system/system-overview.js';

/** A value after it was sent as JSON: a `Date` is a string. */
export type InJson<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? readonly InJson<Item>[]
    : T extends object
      ? { [Key in keyof T]: InJson<T[Key]> }
      : T;

/** What an API over several shards adds to objects, for operators. */
export interface InShard {
  /** The shard that has the object. */
  readonly shard?: string;
}

/** What an API over several shards adds to answers that are merged from several of them. */
export interface OfShards {
  /** The shards that did not answer, so their part is missing. */
  readonly missing?: readonly string[];
}

/** One page of a list. */
export interface ClientPage<T> extends OfShards {
  readonly items: readonly (InJson<T> & InShard)[];
  /** Pass it as `cursor` to get the next page; `null` on the last page. */
  readonly next: string | null;
}

interface PageQuery {
  /** 1 to 200. @defaultValue 50 */
  limit?: number;
  cursor?: string;
}

interface Period {
  /** Only items from this time or later. */
  since?: Date | string;
  /** Only items from before this time. */
  until?: Date | string;
}

type NewListener = Omit<CreateListenerInput, 'entity' | 'property' | 'value' | 'privateKey' | 'owner'> & {
  owner?: string | null;
};

type EventTypeAnswer = Pick<CatalogType, 'type' | 'title' | 'group' | 'description' | 'deprecated' | 'visibility'> & {
  readonly version: number;
  /** The versions that listeners may pin, the newest first. */
  readonly versions: readonly number[];
  readonly properties: readonly string[];
};

type NewSessionPage = { -readonly [Key in keyof SessionPage]?: NonNullable<SessionPage[Key]> };

interface NewSession extends NewSessionPage {
  kind: 'owner' | 'operator';
  owner?: string;
  actor?: string;
  can: readonly Capability[];
  expiresInMs?: number;
}

interface ClientTaskFilter extends Period {
  listenerId?: string;
  states?: readonly DeliveryState[];
  types?: readonly string[];
  error?: string;
  entity?: string;
  entityId?: string;
  owner?: string;
  eventId?: string;
}

interface NewClientTask extends ClientTaskFilter {
  kind: TaskKind;
  ratePerSecond?: number;
  dryRun?: boolean;
}

/** A task, with the property names of the API. */
export type ClientTask = Omit<InJson<Task>, 'filter'> & InShard & { readonly filter: ClientTaskFilter };

type ClientOverview = Omit<InJson<SystemOverview>, 'processes' | 'failing'> &
  InShard &
  OfShards & {
    readonly processes: readonly (InJson<DispatcherProcess> & InShard)[];
    readonly failing: readonly (InJson<FailingListenerSummary> & InShard)[];
  };

type ClientSending = InJson<Sending> &
  InShard &
  OfShards & { readonly shards?: readonly (InJson<Sending> & InShard)[] };

type ClientChores = OfShards & { readonly items: readonly (InJson<SystemChore> & InShard)[] };

interface StatsQuery extends Period {
  step?: StatsStep;
  by?: StatsBy;
}

interface OneListener {
  id: string;
}

/**
 * Input and answer of each operation. In an input, `id` and `type` come from the path, `query` contains the query parameters, and `body` is
 * the body.
 */
export interface OperationTypes {
  getMe: {
    input: undefined;
    answer: {
      readonly kind: 'operator' | 'owner';
      readonly owner: string | null;
      readonly actor: string | null;
      readonly can: readonly Capability[];
      readonly expiresAt: string | null;
      readonly instance: string;
      /** The names of the shards. Only for operators of an API that serves several shards. */
      readonly shards?: readonly string[];
      /** Payload formats and signature schemes that the caller may give to listeners. */
      readonly formats: readonly string[];
      readonly schemes: readonly string[];
    } & SessionPage;
  };
  getSender: {
    input: undefined;
    answer: {
      readonly addresses: readonly string[];
      readonly userAgent: string;
      readonly headers: readonly string[];
      readonly schedule: readonly number[];
      readonly timeoutMs: number;
      readonly success: string;
      readonly gone: number;
    };
  };
  listEventTypes: { input: undefined; answer: { readonly items: readonly EventTypeAnswer[] } };
  getEventsOpenApi: { input: undefined; answer: JsonObject };
  getEventsAsyncApi: { input: undefined; answer: JsonObject };
  getEventsTypeScript: { input: undefined; answer: string };
  getEventSchema: { input: { type: string }; answer: JsonObject };
  getEventType: {
    input: { type: string; query?: { version?: number } };
    answer: EventTypeAnswer & { readonly schema: JsonObject; readonly examples: readonly JsonObject[] };
  };
  listListeners: {
    input: {
      query?: PageQuery & { state?: Listener['state']; type?: string; q?: string; health?: 'failing'; owner?: string };
    };
    answer: ClientPage<Listener & { readonly health: ListenerHealth }>;
  };
  createListener: { input: { body: NewListener }; answer: InJson<ListenerWithSecret> & InShard };
  checkUrl: { input: { body: { url: string } }; answer: UrlVerdict };
  getListener: { input: OneListener; answer: InJson<Listener & { readonly health: ListenerHealth }> & InShard };
  updateListener: { input: OneListener & { body: UpdateListenerInput }; answer: InJson<Listener> & InShard };
  deleteListener: { input: OneListener; answer: undefined };
  enableListener: {
    input: OneListener & { body?: { held?: 'release' | 'discard' } };
    answer: InJson<Listener> & InShard;
  };
  disableListener: { input: OneListener & { body?: { reason?: string } }; answer: InJson<Listener> & InShard };
  rotateSecret: {
    input: OneListener & { body?: { overlapMs?: number; secret?: string } };
    answer: InJson<Listener> & { readonly secret: string | null };
  };
  rotateSigningKey: { input: OneListener & { body?: { overlapMs?: number } }; answer: InJson<Listener> & InShard };
  startHandshake: { input: OneListener; answer: InJson<Listener> & InShard };
  testListener: {
    input: OneListener & { body?: { type?: string; version?: number } };
    answer: { readonly deliveryId: string };
  };
  listDeliveries: {
    input: {
      query?: PageQuery &
        Period & {
          listenerId?: string;
          eventId?: string;
          type?: string;
          state?: DeliveryState;
          status?: number | string;
          error?: string;
          owner?: string;
        };
    };
    answer: ClientPage<Delivery>;
  };
  getDelivery: { input: { id: string }; answer: InJson<DeliveryDetails> & InShard };
  getDeliveryBody: { input: { id: string; query?: { as?: 'curl' } }; answer: string };
  resendDelivery: { input: { id: string }; answer: InJson<Delivery> & InShard };
  discardDelivery: { input: { id: string }; answer: InJson<Delivery> & InShard };
  listEvents: {
    input: {
      query?: PageQuery &
        Period & { type?: string; owner?: string; entity?: string; entityId?: string; sameRowAs?: string };
    };
    answer: ClientPage<StoredEventSummary>;
  };
  getEvent: {
    input: { id: string };
    answer: InJson<StoredEvent> & InShard & { readonly deliveries: Readonly<Record<DeliveryState, number>> };
  };
  listDeliveriesOfEvent: {
    input: { id: string; query?: PageQuery & { state?: DeliveryState } };
    answer: ClientPage<Delivery>;
  };
  listSkippedListeners: {
    input: { id: string; query?: PageQuery & { listenerId?: string } };
    answer: ClientPage<SkippedListener>;
  };
  sendEvent: { input: { id: string; body: { listenerId: string } }; answer: InJson<Delivery> & InShard };
  eraseEvent: { input: { id: string }; answer: undefined };
  /** With `dryRun`, the answer is a count. Otherwise the answer is the task. */
  createTask: { input: { body: NewClientTask }; answer: ClientTask | InJson<TaskCount> };
  listTasks: {
    input: { query?: PageQuery & { state?: TaskState; kind?: TaskKind } };
    answer: OfShards & { readonly items: readonly ClientTask[]; readonly next: string | null };
  };
  getTask: { input: { id: string }; answer: ClientTask };
  cancelTask: { input: { id: string }; answer: ClientTask };
  getOverview: { input: undefined; answer: ClientOverview };
  getSending: { input: undefined; answer: ClientSending };
  setSending: { input: { body: { paused: boolean; reason?: string } }; answer: ClientSending };
  getStatistics: { input: { query?: StatsQuery }; answer: InJson<Statistics> & InShard & OfShards };
  getListenerStatistics: { input: OneListener & { query?: StatsQuery }; answer: InJson<Statistics> };
  previewListener: {
    input: { body: Omit<PreviewInput, 'since'> & { owner?: string; since?: Date | string } };
    answer: InJson<ListenerPreview> & OfShards;
  };
  listAudit: {
    input: {
      query?: PageQuery & Period & { action?: AuditAction; target?: string; actor?: string };
    };
    answer: ClientPage<AuditItem>;
  };
  listChores: { input: undefined; answer: ClientChores };
  runChores: { input: undefined; answer: ClientChores };
  listDamaged: {
    input: undefined;
    answer: OfShards & { readonly items: readonly (InJson<DamagedItem> & InShard)[]; readonly capped: boolean };
  };
  /** An id `img_…` needs `shard`, if the API serves several shards. */
  retryDamaged: { input: { id: string; query?: { shard?: string } }; answer: undefined };
  createSession: {
    input: { body: NewSession };
    answer: { readonly id: string; readonly token: string; readonly expiresAt: string };
  };
  revokeSession: { input: { id: string }; answer: undefined };
  revokeSessionsOfOwner: { input: { query: { owner: string } }; answer: undefined };
  getOpenApi: { input: undefined; answer: JsonObject };
}
