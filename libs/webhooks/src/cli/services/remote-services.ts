import { setTimeout as sleep } from 'node:timers/promises';
import { createWebhooksClient, type WebhooksClient } from '../../client/webhooks-client.js';
import type { NewTask, Task } from '../../deliveries/task.js';
import { ConfigurationError } from '../../errors.js';
import { messageOf } from '../../foreign-text.js';
import { TASK_TRANSITIONS } from '../../health/transitions.js';
import type { ListenerService } from '../../listeners/listener.service.js';
import type { CommandServices } from './command-services.js';
import { apiUrl } from './api-options.js';

/** The maximum number of items on a page of the API. */
const LONGEST_PAGE = 200;

/** How often a command looks at a task of the application. */
const LOOK_EVERY_MS = 500;

/** The client of a command. Methods throw `WebhooksApiError`, with the code of the API. */
export function remoteClient(api: string, token: string | undefined): WebhooksClient {
  const url = apiUrl('--api', api);
  return createWebhooksClient({
    url,
    ...(token === undefined ? {} : { token }),
    fetch: (input, init) => fetch(input, init).catch((cause: unknown) => Promise.reject(unreachable(url, cause))),
  });
}

/** The services of an application over its API. */
export function remoteServices(api: string, token: string | undefined): CommandServices {
  const client = remoteClient(api, token);
  return {
    listeners: listenersOf(client),
    deliveries: deliveriesOf(client),
    events: eventsOf(client),
    tasks: tasksOf(client),
    system: {
      statistics: async (options) => revived(await client.getStatistics({ query: { ...options } })),
      statisticsOf: async ({ id }, options) =>
        revived(await client.getListenerStatistics({ id, query: { ...options } })),
      overview: async () => revived(await client.getOverview()),
      sending: async () => revived(await client.getSending()),
      pauseSending: async (options) => revived(await client.setSending({ body: { paused: true, ...options } })),
      resumeSending: async () => revived(await client.setSending({ body: { paused: false } })),
    },
    // The application itself seals the secrets.
    assertCanSeal: () => Promise.resolve(),
  };
}

function listenersOf(client: WebhooksClient): CommandServices['listeners'] {
  return {
    async list(options) {
      const { limit, ...query } = options ?? {};
      return revived(await client.listListeners({ query: { ...query, ...paged(limit) } }));
    },
    get: async (id) => revived(await client.getListener({ id })),
    // The API refuses properties that its callers may not set, such as an entity.
    create: async (input) => revived(await client.createListener({ body: input as never })),
    enable: async (id, options) => revived(await client.enableListener({ id, body: { ...held(options) } })),
    disable: async (id, reason) =>
      revived(await client.disableListener({ id, body: reason === undefined ? {} : { reason } })),
    rotateSecret: async (id, options) => revived(await client.rotateSecret({ id, body: { ...options } })),
    sendTest: (id, options) => client.testListener({ id, body: { ...options } }),
  };
}

/** Leaves out the revision, which the API takes as a header and no command sets. */
function held(options: Parameters<ListenerService['enable']>[1]): { held?: 'release' | 'discard' } {
  return options?.held === undefined ? {} : { held: options.held };
}

function deliveriesOf(client: WebhooksClient): CommandServices['deliveries'] {
  return {
    async list({ limit, since, until, errorCode, ...query } = {}) {
      const given = { ...query, ...paged(limit), ...period(since, until) };
      const error = errorCode === undefined ? {} : { error: errorCode };
      return revived(await client.listDeliveries({ query: { ...given, ...error } }));
    },
    get: async (id) => revived(await client.getDelivery({ id })),
    resend: async (id) => revived(await client.resendDelivery({ id })),
  };
}

function eventsOf(client: WebhooksClient): CommandServices['events'] {
  return {
    async list({ limit, since, until, entityId, ...query } = {}) {
      // The key of a row with several key columns is an object, which no query can contain: the API refuses it.
      const row = entityId === undefined ? {} : { entityId: String(entityId) };
      return revived(
        await client.listEvents({ query: { ...query, ...row, ...paged(limit), ...period(since, until) } }),
      );
    },
    get: async (id) => revived(await client.getEvent({ id })),
  };
}

function tasksOf(client: WebhooksClient): CommandServices['tasks'] {
  const get = async (id: string): Promise<Task> => revived(inServiceNames(await client.getTask({ id })));
  return {
    get,
    async list({ limit, ...query } = {}) {
      const page = await client.listTasks({ query: { ...query, ...paged(limit) } });
      return revived({ ...page, items: page.items.map(inServiceNames) });
    },
    count: async (input) => revived(await client.createTask({ body: { ...inApiNames(input), dryRun: true } })),
    create: async (input) =>
      revived(inServiceNames((await client.createTask({ body: inApiNames(input) })) as { filter: object })),
    cancel: async (id) => revived(inServiceNames(await client.cancelTask({ id }))),
    /** Waits for the task: a dispatcher of the application works on it. */
    async run(id, { signal, onProgress } = {}) {
      for (let task = await get(id); ; task = await get(id)) {
        onProgress?.(task);
        if (!TASK_TRANSITIONS[task.state].length || signal?.aborted) return task;
        await sleep(LOOK_EVERY_MS, undefined, signal ? { signal } : {}).catch(() => undefined);
      }
    },
  };
}

type NewApiTask = Parameters<WebhooksClient['createTask']>[0]['body'];

function inApiNames({ errorCode, ...input }: NewTask): NewApiTask {
  return { ...input, ...(errorCode === undefined ? {} : { error: errorCode }) } as NewApiTask;
}

function inServiceNames({ filter, ...task }: { readonly filter: object }): object {
  const { error, ...rest } = filter as { error?: string };
  return { ...task, filter: { ...rest, ...(error === undefined ? {} : { errorCode: error }) } };
}

function paged(limit: number | undefined): { limit?: number } {
  return limit === undefined ? {} : { limit: Math.min(limit, LONGEST_PAGE) };
}

function period(since: Date | undefined, until: Date | undefined): { since?: Date; until?: Date } {
  return { ...(since === undefined ? {} : { since }), ...(until === undefined ? {} : { until }) };
}

/** Properties that contain times. Strings in other properties are not converted. */
const TIME = /(?:At|Since|Until)$|^(?:timestamp|since|until|seenAt|oldest|newest|position)$/;
/** Objects whose keys the application chooses, so no key in them means a time. */
const FOREIGN = new Set(['data', 'previous', 'context', 'metadata', 'headers', 'where']);

/** An answer with `Date` objects, as the services return it. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says what the API has documented, once and not at each call
function revived<T extends object>(answer: object): T {
  return Object.fromEntries(
    Object.entries(answer).map(([name, value]) => [name, FOREIGN.has(name) ? value : revivedValue(name, value)]),
  ) as T;
}

function revivedValue(name: string, value: unknown): unknown {
  if (typeof value === 'string' && TIME.test(name)) return new Date(value);
  if (Array.isArray(value)) return value.map((one: unknown) => revivedValue('', one));
  return typeof value === 'object' && value !== null ? revived(value) : value;
}

/** fetch() says only "fetch failed"; its cause says why. */
function unreachable(url: string, error: unknown): ConfigurationError {
  const { cause = error } = error as { cause?: unknown };
  return new ConfigurationError(
    'API_UNREACHABLE',
    `The API at ${url} cannot be reached: ${messageOf(cause)}. Check the URL, and that the application runs.`,
    { cause: error },
  );
}
