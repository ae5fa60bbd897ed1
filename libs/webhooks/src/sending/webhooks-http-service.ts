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

import type { ConnectionOptions, TlsIdentity } from './connection-options.js';
import { GuardedClient, type PostHeaders } from './guarded-client.js';
import { failedPost, type PostResult } from './post-result.js';
import type { ResolvedSecurityOptions } from './security-options.js';
import { describeError, SendError } from './send-error.js';
import type { OnStatus, SignedRequest } from './transport.js';

/** Options of {@link createWebhooksHttpService}. */
export interface WebhooksHttpOptions extends ConnectionOptions {
  security: ResolvedSecurityOptions;
}

/**
 * The module's own `HttpService`, and a direct path. {@link HttpTransport} uses the direct path when there are no
 * interceptors.
 *
 * Use `http` to add interceptors: `http.axiosRef.interceptors.request.use(…)`. An interceptor may set headers, sign for
 * a gateway, change the URL and observe responses. The address of a changed URL is also guarded. An interceptor must
 * not change the signed body or set another adapter. The answer of the receiver decides the outcome. Interceptors
 * cannot change the outcome. The defaults are frozen. So `axiosRef.defaults.headers.common.x = …` throws an error and
 * is not silently ignored.
 */
export interface WebhooksHttp {
  readonly http: HttpService;
  /**
   * Sends a request through the interceptors of `http`. If there are no interceptors, sends the request directly
   * through the adapter. The promise never rejects.
   */
  post(request: SignedRequest): Promise<PostResult>;
  /** Closes every connection. */
  close(): Promise<void>;
}

/**
 * Creates an `HttpService` with its own axios instance. The instance shares no defaults and no interceptors with the
 * global axios or with the application's `HttpModule`, and it ignores the proxy of the environment. It sends only
 * requests of {@link WebhooksHttp.post}.
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

/** Key in an axios config. Under this key, the {@link PendingPost} of a request passes through the interceptors. */
const PENDING = 'webhook';

type PendingConfig<C> = C & { [PENDING]?: unknown };

/**
 * The data that the adapter needs about a request after the interceptors. The data is a class instance, because
 * axios clones plain objects when it merges configs.
 */
class PendingPost {
  /** The answer of the receiver, or the reason why there is no answer. If an interceptor has retried, this is the last answer. */
  result: PostResult | null = null;
  /** The request of the adapter, while it is in flight. */
  running: Promise<PostResult> | null = null;
  /** Whether the outcome is decided. After that, a late or retrying interceptor sends nothing. */
  closed = false;
  /** The field is private, because it contains a private key, and an interceptor may print its config. */
  readonly #tls: TlsIdentity | undefined;

  constructor(
    /** A copy of the body, because an interceptor could write into the Buffer that it sees. */
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
  // `create` copies the global defaults of axios. These defaults may contain credentials of the application, so remove
  // all defaults.
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
 * Ensures that every request ends in the guarded adapter. If an interceptor returns a config without an adapter, axios
 * uses its global adapters. The global adapters follow redirects, use proxies and have no guard.
 *
 * axios collects the interceptors of a request with `forEach`. The `transitional` settings of axios decide whether it
 * runs them from last to first or from first to last. So the adapter is set at both ends. The code sets it in
 * `forEach` and not in a registered interceptor, because an application could clear registered interceptors.
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

/** Members that axios has at run time but not in its types. Ejected handlers stay in the list as `null`. */
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
  // If a future axios has no `handlers`, assume that there are interceptors. This assumption is slower, but never
  // wrong.
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
    // With `false`, axios adds no content type of its own when the caller gives no content type.
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
      'interceptors used the whole time limit, or made axios skip the request',
    );
  }
  return new SendError('INTERCEPTOR_FAILED', `an interceptor threw: ${describeError(thrown)}`, { cause: thrown });
}

/** The axios adapter. It refuses requests that were not signed, sends the request, and returns the answer to axios. */
async function adapt(
  instance: AxiosInstance,
  client: GuardedClient,
  config: PendingConfig<InternalAxiosRequestConfig>,
): Promise<AxiosResponse<string>> {
  const pending = config[PENDING];
  if (!(pending instanceof PendingPost)) {
    throw new SendError(
      'BODY_MISMATCH',
      'this HttpService sends only signed webhooks; an interceptor must return the config that it received',
    );
  }
  if (pending.closed) throw new SendError('TIMEOUT', 'the outcome of this attempt is already decided');
  if (!isSameBody(config.data, pending.body)) {
    const error = new SendError('BODY_MISMATCH', 'an interceptor changed the signed body');
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
