import { HttpService } from '@nestjs/axios';
import axios, {
  type AxiosAdapter,
  AxiosError,
  AxiosHeaders,
  type AxiosInstance,
  type AxiosRequestConfig,
  type AxiosResponse,
  type InternalAxiosRequestConfig,
} from 'axios';

import type { ConnectionOptions, TlsIdentity } from './guarded-agent.js';
import { GuardedClient, type PostHeaders } from './guarded-client.js';
import { failedPost, type PostResult } from './post-result.js';
import type { ResolvedSecurityOptions } from './security-options.js';
import { describeError, SendError } from './send-error.js';
import type { OnStatus, SignedRequest } from './transport.js';

/** What {@link createWebhooksHttpService} needs to know. */
export interface WebhooksHttpOptions extends ConnectionOptions {
  security: ResolvedSecurityOptions;
}

/**
 * The module's own `HttpService`, and the way round it that {@link HttpTransport} takes when nobody intercepts.
 *
 * `http` is there for interceptors: `http.axiosRef.interceptors.request.use(…)`. They may set headers, sign for a gateway,
 * change the URL (its address is guarded like any other) and observe responses. They may not change the body, as it has been
 * signed, nor bring another adapter, and the outcome is what the receiver answered, whatever they make of it. Its defaults are
 * frozen, so that a line like `axiosRef.defaults.headers.common.x = …` fails at once instead of being passed over.
 */
export interface WebhooksHttp {
  readonly http: HttpService;
  /** Sends through the interceptors of `http` when there are any, else straight through the adapter. Never rejects. */
  post(request: SignedRequest): Promise<PostResult>;
  /** Ends every connection. */
  close(): Promise<void>;
}

/**
 * An `HttpService` over an axios instance that shares nothing with axios' global one or the application's `HttpModule`: no
 * defaults, no interceptors, no proxy from the environment. It can send what {@link WebhooksHttp.post} gives it and
 * nothing else.
 */
export function createWebhooksHttpService(options: WebhooksHttpOptions): WebhooksHttp {
  const { security, ...connections } = options;
  const client = new GuardedClient(security, connections);
  const instance = createIsolatedAxios(client);
  return {
    http: new HttpService(instance),
    post: (request) => (isIntercepted(instance) ? postThroughAxios(instance, request) : client.post(request)),
    close: () => client.close(),
  };
}

/** Key in an axios config under which a request's {@link PendingPost} travels through the interceptors. */
const PENDING = 'webhook';

type PendingConfig<C> = C & { [PENDING]?: unknown };

/**
 * What the adapter needs to know of a request that comes to it through interceptors. A class instance, because axios clones
 * plain objects when it merges configs.
 */
class PendingPost {
  /** What the receiver answered, or why it was not asked; the last one, should an interceptor have tried again. */
  result: PostResult | null = null;
  /** The adapter's request, while it runs. */
  running: Promise<PostResult> | null = null;
  /** Set when the outcome is decided: an interceptor that is late, or tries again later, sends nothing any more. */
  closed = false;
  /** It holds a private key, and an interceptor may print the config that it is given. */
  readonly #tls: TlsIdentity | undefined;

  constructor(
    /** A copy: an interceptor could write into the Buffer that it is shown. */
    readonly body: Buffer,
    readonly deadline: number,
    tls: TlsIdentity | undefined,
    readonly method: 'POST' | 'OPTIONS',
    readonly onStatus: OnStatus | undefined,
  ) {
    this.#tls = tls;
  }

  get tls(): TlsIdentity | undefined {
    return this.#tls;
  }
}

function createIsolatedAxios(client: GuardedClient): AxiosInstance {
  // `create` starts from a copy of axios' global defaults, which may hold an application's credentials: start from nothing.
  const instance = axios.create();
  const defaults = instance.defaults as unknown as Record<string, unknown>;
  for (const key of Object.keys(defaults)) delete defaults[key];
  const adapter: AxiosAdapter = (config) => adapt(instance, client, config);
  Object.assign(defaults, {
    adapter,
    headers: Object.freeze({ common: Object.freeze({}) }),
    transformRequest: Object.freeze([]),
    transformResponse: Object.freeze([]),
    validateStatus: () => true,
    maxRedirects: 0,
    proxy: false,
  });
  Object.freeze(defaults);
  pinAdapter(instance, adapter);
  return instance;
}

/**
 * Sees to it that every request ends in our adapter: where an interceptor hands on a config without one, axios falls back to
 * its global adapters, which follow redirects, use proxies and know no guard.
 *
 * axios collects the interceptors of a request by `forEach`, and runs them from the last to the first, or the other way round
 * by its `transitional` settings: ours stands at both ends. It does so here and not as one that is registered, which an
 * application could clear.
 */
function pinAdapter(instance: AxiosInstance, adapter: AxiosAdapter): void {
  const manager = instance.interceptors.request as unknown as InterceptorManager;
  const forEach = manager.forEach.bind(manager);
  const pin: Interceptor = {
    fulfilled: (config) => Object.assign(config, { adapter }),
    synchronous: true,
  };
  manager.forEach = (collect) => {
    collect(pin);
    forEach(collect);
    collect(pin);
  };
}

/** What axios has at run time and not in its types. Ejected handlers stay in the list as `null`. */
interface InterceptorManager {
  handlers?: readonly (Interceptor | null)[] | null;
  forEach(collect: (interceptor: Interceptor) => void): void;
}

interface Interceptor {
  fulfilled: (config: InternalAxiosRequestConfig) => InternalAxiosRequestConfig;
  synchronous: boolean;
}

function isIntercepted(instance: AxiosInstance): boolean {
  const { request, response } = instance.interceptors as unknown as Record<'request' | 'response', InterceptorManager>;
  return hasHandler(request.handlers) || hasHandler(response.handlers);
}

function hasHandler(handlers: InterceptorManager['handlers']): boolean {
  // Unknown, in a future axios, means intercepted: slower, never wrong.
  if (handlers === undefined) return true;
  return handlers !== null && handlers.some((handler) => handler !== null);
}

async function postThroughAxios(instance: AxiosInstance, request: SignedRequest): Promise<PostResult> {
  const { method = 'POST' } = request;
  const deadline = performance.now() + request.timeoutMs;
  const pending = new PendingPost(Buffer.from(request.body), deadline, request.tls, method, request.onStatus);
  const config: PendingConfig<AxiosRequestConfig> = {
    url: request.url,
    method,
    // `false` keeps axios from adding a form content type, should a caller have given none.
    headers: { 'content-type': false, ...request.headers },
    data: request.body,
    [PENDING]: pending,
  };
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, request.timeoutMs);
  });
  let thrown: unknown = null;
  try {
    await Promise.race([instance.request(config), limit.then(() => pending.running)]);
  } catch (error) {
    thrown = error;
  }
  clearTimeout(timer);
  pending.closed = true;
  return pending.result ?? failedPost(withoutResult(thrown));
}

function withoutResult(thrown: unknown): SendError {
  if (thrown instanceof SendError) return thrown;
  if (thrown === null) {
    return new SendError(
      'INTERCEPTOR_FAILED',
      'interceptors took the whole time limit, or made axios skip the request',
    );
  }
  return new SendError('INTERCEPTOR_FAILED', `an interceptor threw: ${describeError(thrown)}`, { cause: thrown });
}

/** axios' adapter: refuses what was not signed, sends, and tells axios what came back. */
async function adapt(
  instance: AxiosInstance,
  client: GuardedClient,
  config: PendingConfig<InternalAxiosRequestConfig>,
): Promise<AxiosResponse<string>> {
  const pending = config[PENDING];
  if (!(pending instanceof PendingPost)) {
    throw new SendError(
      'BODY_MISMATCH',
      'this HttpService sends signed webhooks only; an interceptor must pass on the config that it was given',
    );
  }
  if (pending.closed) throw new SendError('TIMEOUT', 'the outcome of this attempt has been decided');
  if (!isSameBody(config.data, pending.body)) {
    const error = new SendError('BODY_MISMATCH', 'an interceptor changed the body after it had been signed');
    pending.result = failedPost(error);
    throw error;
  }
  pending.running = client.post({
    url: urlOf(instance, config),
    method: pending.method,
    headers: headersOf(config),
    body: pending.body,
    timeoutMs: remainingMs(pending),
    tls: pending.tls,
    onStatus: pending.onStatus,
  });
  const result = await pending.running;
  pending.result = result;
  pending.running = null;
  if (result.status === null) {
    throw new AxiosError(result.error?.message, result.error?.code, config, null);
  }
  return {
    status: result.status,
    statusText: '',
    headers: AxiosHeaders.from(result.headers as Record<string, string | string[]>),
    data: result.body,
    config,
    request: null,
  };
}

function isSameBody(data: unknown, signed: Buffer): boolean {
  if (typeof data === 'string') return Buffer.from(data).equals(signed);
  return data instanceof Uint8Array && signed.equals(data);
}

function urlOf(instance: AxiosInstance, config: InternalAxiosRequestConfig): string {
  return config.params === undefined && config.baseURL === undefined ? (config.url ?? '') : instance.getUri(config);
}

function headersOf(config: InternalAxiosRequestConfig): PostHeaders {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(AxiosHeaders.from(config.headers).toJSON())) {
    if (value === null || value === undefined) continue;
    headers[name] = Array.isArray(value) ? value : String(value);
  }
  return headers;
}

function remainingMs(pending: PendingPost): number {
  return Math.max(1, Math.ceil(pending.deadline - performance.now()));
}
