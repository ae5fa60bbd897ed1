import { TASK_KINDS } from '../deliveries/task-input.js';
import type { NewTask, Task, TaskFilter, TaskKind, TaskState } from '../deliveries/task.js';
import { BadRequestError } from '../errors.js';
import { TASK_TRANSITIONS } from '../health/transitions.js';
import type { WebhookPageOptions } from '../store/database/page.js';
import type { Capability, Principal } from './access.js';
import { ApiError } from './api-error.js';
import { ref } from './components.js';
import { PAGE, pageAnswer, withoutOwner, withTimes } from './queries.js';
import type { ApiCall, ApiRoute } from './route.js';
import type { Schema } from './schema.js';

/** The capability that each kind of task needs. */
const NEEDED: Readonly<Record<TaskKind, Capability>> = {
  recover: 'deliveries:resend',
  replay: 'deliveries:resend',
  discard: 'deliveries:resend',
  erase: 'erase',
  reseal: 'system:write',
};

/** Capabilities of routes that need one of several. */
const ANY_NEEDED = [...new Set(Object.values(NEEDED))];

const KIND: Schema = { type: 'string', enum: TASK_KINDS };
const STATE: Schema = { type: 'string', enum: Object.keys(TASK_TRANSITIONS).filter((state) => state !== 'new') };
const text = (description: string): Schema => ({ type: 'string', minLength: 1, maxLength: 255, description });
const time = (description: string): Schema => ({ type: 'string', format: 'date-time', description });

/** The filter of a task, in requests and answers. */
const TASK_FILTER: Readonly<Record<string, Schema>> = {
  listenerId: text('Only this listener. Required for replay.'),
  since: time('Created at this time or later. Required for recover and replay.'),
  until: time('Created before this time; without it, until now.'),
  states: {
    type: 'array',
    minItems: 1,
    maxItems: 2,
    items: { type: 'string', enum: ['exhausted', 'discarded', 'due', 'held'] },
    description: 'recover: exhausted, discarded. discard: due, held.',
    example: ['exhausted'],
  },
  types: {
    type: 'array',
    minItems: 1,
    maxItems: 100,
    items: { type: 'string', minLength: 1, maxLength: 255 },
    description: 'Only these event types.',
    example: ['order.updated'],
  },
  error: text('Error code of the last attempt.'),
  entity: text('Only events of one row: the name of its entity.'),
  entityId: text('The primary key of the row.'),
  owner: text('Only listeners of this owner; with erase, the events of its rows. For operators.'),
  eventId: text('erase: only this event.'),
};

const CREATE: Schema = {
  type: 'object',
  properties: {
    kind: { ...KIND, description: 'What to do.' },
    ...TASK_FILTER,
    ratePerSecond: { type: 'integer', minimum: 1, maximum: 10_000, description: 'At most so many a second.' },
    dryRun: { type: 'boolean', description: 'Only count.' },
  },
  required: ['kind'],
  additionalProperties: false,
};

export const TASK_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'createTask',
    method: 'POST',
    path: '/tasks',
    summary: 'Begins bulk work in the background, or counts what it would do',
    capability: ANY_NEEDED,
    body: CREATE,
    isBodyRequired: true,
    status: 202,
    answer: ref('Task'),
    otherAnswer: { status: 200, answer: ref('TaskCount') },
    isIdempotent: true,
    reach: 'one',
    errors: [404, 409],
    async run(call) {
      const { principal, tasks, body } = call;
      const { dryRun: isDryRun, ...input } = body as { kind: TaskKind; dryRun?: boolean };
      assertMay(principal, input.kind);
      const task = newTask({ ...call, query: input });
      if (isDryRun) return { status: 200, body: await inApiNames(tasks.count(task)) };
      const created = await inApiNames(tasks.create(task));
      return { body: shownTask(created), headers: { Location: created.id } };
    },
  },
  {
    operation: 'listTasks',
    method: 'GET',
    path: '/tasks',
    summary: 'Lists tasks',
    capability: 'deliveries:read',
    query: {
      state: { ...STATE, description: 'Only in this state.' },
      kind: { ...KIND, description: 'Only of this kind.' },
      ...PAGE,
    },
    status: 200,
    answer: ref('TaskPage'),
    reach: 'pages',
    errors: [400],
    async run({ tasks, query }) {
      const page = await tasks.list(query as { state?: TaskState; kind?: TaskKind } & WebhookPageOptions);
      return pageAnswer(page, shownTask);
    },
  },
  {
    operation: 'getTask',
    method: 'GET',
    path: '/tasks/{id}',
    summary: 'Reads a task and its progress',
    capability: 'deliveries:read',
    status: 200,
    answer: ref('Task'),
    errors: [404],
    run: async ({ tasks, id }) => ({ body: shownTask(await tasks.get(id)) }),
  },
  {
    operation: 'cancelTask',
    method: 'POST',
    path: '/tasks/{id}/cancel',
    summary: 'Cancels a task; what was done stays done',
    capability: ANY_NEEDED,
    status: 200,
    answer: ref('Task'),
    errors: [404, 409],
    async run({ principal, tasks, id }) {
      assertMay(principal, (await tasks.get(id)).kind);
      return { body: shownTask(await tasks.cancel(id)) };
    },
  },
];

/** @throws ApiError `CAPABILITY_MISSING` */
function assertMay({ can }: Principal, kind: TaskKind): void {
  if (can.includes(NEEDED[kind])) return;
  throw new ApiError('CAPABILITY_MISSING', 403, `This call needs the capability ${NEEDED[kind]}.`);
}

function newTask(call: ApiCall): NewTask {
  const { error, ...rest } = withTimes(withoutOwner(call));
  const input = { ...rest, ...(error === undefined ? {} : { errorCode: error }) };
  return input as unknown as NewTask;
}

/** Properties of a task whose names differ between the API and the core. */
const API_NAMES: Readonly<Record<string, string>> = { errorCode: 'error' };

/** Translates the property names in an error to the names of the API. */
async function inApiNames<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof BadRequestError) || !OF_PROPERTIES.has(error.code)) throw error;
    const { code, details } = error;
    const detail = error.message.replaceAll(/`(\w+)`/g, (_, name: string) => `\`${API_NAMES[name] ?? name}\``);
    const faults = (details['properties'] as string[]).map((name) => ({
      pointer: `/${API_NAMES[name] ?? name}`,
      code,
      detail,
    }));
    throw new ApiError(code, error.httpStatus, detail, { faults });
  }
}

/** Codes of errors that name properties of a task in `details`. */
const OF_PROPERTIES: ReadonlySet<string> = new Set(['INVALID_TASK', 'INVALID_ENTITY_ID']);

/** A task with the names of the API. */
export function shownTask({ filter, ...task }: Task): object {
  const named = Object.entries(filter as Readonly<Record<keyof TaskFilter, unknown>>).map(([key, value]) => [
    API_NAMES[key] ?? key,
    key === 'entityId' ? textOfKey(value) : value,
  ]);
  return { ...task, filter: Object.fromEntries(named) as object };
}

function textOfKey(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
