import type { DeliveryService } from '../deliveries/delivery.service.js';
import type { EventService } from '../deliveries/event.service.js';
import type { TaskService } from '../deliveries/task.service.js';
import type { ListenerService } from '../listeners/listener.service.js';
import type { PagePosition } from '../store/database/page.js';
import type { SystemService } from '../system/system.service.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { Capability, Principal } from './access.js';
import type { EventTypes } from './event-types.js';
import type { Schema } from './schema.js';
import type { Sessions } from './sessions.js';
import type { ReservedStream, Streams } from './streams.js';

/** The services and settings that all routes of one module share. */
export interface ApiParts {
  readonly runtime: WebhooksRuntime;
  readonly sessions: Sessions | null;
  readonly streams: Streams;
  readonly eventTypes: EventTypes;
  readonly senderAddresses: readonly string[];
  readonly instance: string;
  /** The names of the shards; empty if the module serves one instance. */
  readonly shards: readonly string[];
}

/** One request that has passed every check. If the principal is an owner, the services are bound to this owner. */
export interface ApiCall {
  readonly principal: Principal;
  readonly parts: ApiParts;
  readonly listeners: ListenerService;
  readonly deliveries: DeliveryService;
  readonly events: EventService;
  readonly tasks: TaskService;
  readonly system: SystemService;
  /** The `{id}` or `{type}` of the path. */
  readonly id: string;
  /** Checked and converted, by {@link ApiRoute.query}. */
  readonly query: Readonly<Record<string, unknown>>;
  /** Checked by {@link ApiRoute.body}; `{}` without a body. */
  readonly body: Readonly<Record<string, unknown>>;
  /** The revision of `If-Match`. */
  readonly ifRevision: number | undefined;
  /** A header of the request, by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** Rejects if the session of the request is no longer valid. `null`: the request has no session. */
  readonly checkSession: (() => Promise<unknown>) | null;
}

/** The result of a route. */
export interface ApiAnswer {
  /** Overrides the status of the route. */
  readonly status?: number;
  readonly body?: unknown;
  /** Exact text, instead of a `body` in JSON. */
  readonly text?: string;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The listener whose secret is in the body. The secret is not stored with the answer for repeated requests. */
  readonly secretOf?: string;
  /** For a list: the position of each item; `undefined` for items that have no row yet. */
  readonly positions?: readonly (PagePosition | undefined)[];
  /** A stream of events while the connection is open, instead of a `body`. */
  readonly stream?: ReservedStream;
}

/** The body of an answer, and the shard that it is from. */
export interface ShardBody {
  readonly shard: string;
  readonly body: unknown;
}

/** How one answer is made from the answers of all shards. */
export interface Merging {
  /** Reads in place of {@link ApiRoute.run}. */
  readonly read?: (call: ApiCall) => Promise<ApiAnswer>;
  /** Makes the body. At least one shard has answered. */
  readonly merge: (bodies: readonly ShardBody[]) => object | undefined;
  /** Whether the call fails if a shard does not answer. Otherwise the answer names this shard as missing. */
  readonly needsAll?: boolean;
}

/**
 * How an operator's call reaches the shards, if the module serves several. A call that names an owner or a shard reaches only this shard.
 *
 * - `any`: every shard would give the same answer
 * - `all`: the parts of all shards together answer
 * - `holder`: the shard that has the id of the path
 * - `one`: the caller must name the shard, unless the body names a listener or an event
 * - `pages`: a list, merged from the lists of all shards
 */
export type Reach = 'any' | 'all' | 'holder' | 'one' | 'pages' | Merging;

export type ApiMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/**
 * One route. The controller, the checks of requests, the OpenAPI document and the test of the client all read this description, so they
 * cannot differ.
 */
export interface ApiRoute {
  /** `operationId` of the document, and the method of the client. */
  readonly operation: string;
  readonly method: ApiMethod;
  /** Below `/v1`, with `{id}` for a parameter. */
  readonly path: string;
  readonly summary: string;
  /**
   * `null`: every principal may call it. If it is a list, one of these capabilities is enough, and the route checks which one the call
   * needs.
   */
  readonly capability: Capability | readonly Capability[] | null;
  readonly query?: Readonly<Record<string, Schema>>;
  readonly body?: Schema;
  readonly isBodyRequired?: boolean;
  /** The service checks the properties of the body, with its own codes and sentences. */
  readonly isCheckedByService?: boolean;
  readonly status: 200 | 201 | 202 | 204;
  readonly answer?: Schema;
  /** A second successful status, with its own body. */
  readonly otherAnswer?: { readonly status: 200; readonly answer: Schema };
  /** The content type of the answer, if it is not JSON. */
  readonly answerType?: string;
  /** Honours `Idempotency-Key`. */
  readonly isIdempotent?: boolean;
  /** Honours `If-Match`. */
  readonly hasRevision?: boolean;
  /**
   * Whether the answer describes event types and contains no data of customers. Such an answer has an `ETag`, and `catalog: { public: true
   * }` shows it to everybody.
   */
  readonly isCatalog?: boolean;
  /** A separate limit, instead of the limit of reads or of changes: the request changes nothing, and costs more than a read. */
  readonly limit?: 'previews' | 'urlChecks';
  /** By default: `holder` for a path with an id, otherwise `any`. */
  readonly reach?: Reach;
  /** More error statuses, for the OpenAPI document. */
  readonly errors: readonly number[];
  readonly run: (call: ApiCall) => Promise<ApiAnswer> | ApiAnswer;
}

/** A caller needs one of these capabilities. If the list is empty, the caller needs none. */
export function neededBy(capability: ApiRoute['capability']): readonly Capability[] {
  if (capability === null) return [];
  return typeof capability === 'string' ? [capability] : capability;
}
