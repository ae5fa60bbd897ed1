import type { PreviewInput } from '../listeners/listener-preview.js';
import { CREATE_LISTENER, ref } from './components.js';
import type { AuditFilter } from '../system/audit-log.js';
import type { StatsOptions } from '../system/statistics.js';
import type { WebhookPageOptions } from '../store/database/page.js';
import {
  mergeDamaged,
  mergeItems,
  mergeOverviews,
  mergePreviews,
  mergeSending,
  mergeStatistics,
} from './merge-answers.js';
import { PAGE, pageAnswer, withTimes } from './queries.js';
import type { ApiAnswer, ApiCall, ApiRoute } from './route.js';
import type { Schema } from './schema.js';
import { AUDIT_ACTIONS } from '../store/system/audit.js';

const STATS: Readonly<Record<string, Schema>> = {
  since: { type: 'string', format: 'date-time', description: 'From this time on. By default: 24 hours before until.' },
  until: { type: 'string', format: 'date-time', description: 'Until this time. By default: now.' },
  step: { type: 'string', enum: ['1m', '5m', '1h', '1d'], description: 'The time of a point.' },
  by: {
    type: 'string',
    enum: ['outcome', 'listener', 'type', 'error'],
    default: 'outcome',
    description:
      'outcome: one series. listener, type: a series for each of the ten with the most attempts, and `other`. error: the same of failed attempts, by error code.',
  },
};

function statsOptions({ query }: ApiCall): StatsOptions {
  return withTimes(query);
}

async function readFigures(call: ApiCall): Promise<ApiAnswer> {
  return { body: await call.system.figures(statsOptions(call)) };
}

export const SYSTEM_ROUTES: readonly ApiRoute[] = [
  {
    operation: 'getOverview',
    method: 'GET',
    path: '/overview',
    summary: 'Says what is pending, what fails, and which processes send',
    capability: 'stats:read',
    status: 200,
    answer: ref('Overview'),
    reach: { merge: mergeOverviews },
    errors: [],
    run: async ({ system }) => ({ body: await system.overview() }),
  },
  {
    operation: 'getSending',
    method: 'GET',
    path: '/sending',
    summary: 'Says whether sending is paused',
    capability: 'system:read',
    status: 200,
    answer: ref('Sending'),
    reach: { merge: mergeSending },
    errors: [],
    run: async ({ system }) => ({ body: await system.sending() }),
  },
  {
    operation: 'setSending',
    method: 'PUT',
    path: '/sending',
    summary: 'Pauses or resumes all sending. Events are stored and routed meanwhile',
    capability: 'system:write',
    body: {
      type: 'object',
      properties: {
        paused: { type: 'boolean', description: 'true: nothing is sent until it is resumed.' },
        reason: { type: 'string', minLength: 1, maxLength: 500, description: 'Why it is paused, for operators.' },
      },
      required: ['paused'],
      additionalProperties: false,
    },
    isBodyRequired: true,
    status: 200,
    answer: ref('Sending'),
    reach: { merge: mergeSending },
    errors: [400],
    async run({ system, body }) {
      const { paused, ...options } = body as { paused: boolean; reason?: string };
      return { body: await (paused ? system.pauseSending(options) : system.resumeSending()) };
    },
  },
  {
    operation: 'getStatistics',
    method: 'GET',
    path: '/stats',
    summary: 'Counts attempts over time, of every listener that the caller sees',
    capability: 'stats:read',
    query: STATS,
    status: 200,
    answer: ref('Statistics'),
    reach: { read: readFigures, merge: mergeStatistics },
    errors: [400],
    run: async (call) => ({ body: await call.system.statistics(statsOptions(call)) }),
  },
  {
    operation: 'getListenerStatistics',
    method: 'GET',
    path: '/listeners/{id}/stats',
    summary: 'Counts attempts to a listener over time',
    capability: 'stats:read',
    query: STATS,
    status: 200,
    answer: ref('Statistics'),
    errors: [400, 404],
    async run(call) {
      const listener = await call.listeners.get(call.id);
      return { body: await call.system.statisticsOf(listener, statsOptions(call)) };
    },
  },
  {
    operation: 'previewListener',
    method: 'POST',
    limit: 'previews',
    path: '/listeners/preview',
    summary: 'Says which of the newest events a listener would receive. Creates nothing',
    capability: 'listeners:write',
    body: {
      type: 'object',
      properties: {
        events: CREATE_LISTENER.properties?.['events'] as Schema,
        where: CREATE_LISTENER.properties?.['where'] as Schema,
        owner: {
          type: 'string',
          minLength: 1,
          maxLength: 255,
          description: 'The owner of the listener. For operators.',
        },
        since: { type: 'string', format: 'date-time', description: 'Only events at this time or later.' },
        limit: {
          type: 'integer',
          minimum: 1,
          maximum: 500,
          default: 500,
          description: 'How many events are looked at.',
        },
      },
      required: ['events'],
      additionalProperties: false,
    },
    isBodyRequired: true,
    status: 200,
    answer: ref('Preview'),
    reach: { merge: mergePreviews },
    errors: [400],
    async run({ listeners, body }) {
      const { owner, ...input } = withTimes(body) as Record<string, unknown> & { owner?: string };
      const service = owner === undefined ? listeners : listeners.forOwner(owner);
      return { body: await service.preview(input as unknown as PreviewInput) };
    },
  },
  {
    operation: 'listAudit',
    method: 'GET',
    path: '/audit',
    summary: 'Lists the changes that were made, newest first',
    capability: 'system:read',
    query: {
      action: { type: 'string', enum: AUDIT_ACTIONS, description: 'Only this kind of change.' },
      target: { type: 'string', minLength: 1, maxLength: 255, description: 'Only changes of this id or owner.' },
      actor: { type: 'string', minLength: 1, maxLength: 255, description: 'Only changes by this actor.' },
      since: { type: 'string', format: 'date-time', description: 'At this time or later.' },
      until: { type: 'string', format: 'date-time', description: 'Before this time.' },
      ...PAGE,
    },
    status: 200,
    answer: ref('AuditPage'),
    reach: 'pages',
    errors: [400],
    async run({ system, query }) {
      const filter: AuditFilter & WebhookPageOptions = withTimes(query);
      return pageAnswer(await system.audit(filter));
    },
  },
  {
    operation: 'listChores',
    method: 'GET',
    path: '/chores',
    summary: 'Lists the periodic work',
    capability: 'system:read',
    status: 200,
    answer: ref('Chores'),
    reach: { merge: mergeItems },
    errors: [],
    run: async ({ system }) => ({ body: { items: await system.chores() } }),
  },
  {
    operation: 'runChores',
    method: 'POST',
    path: '/chores/run',
    summary: 'Makes the periodic work due now. A process whose dispatcher runs does it',
    capability: 'system:write',
    status: 202,
    answer: ref('Chores'),
    reach: { merge: mergeItems },
    errors: [],
    run: async ({ system }) => ({ body: { items: await system.runChores() } }),
  },
  {
    operation: 'listDamaged',
    method: 'GET',
    path: '/damaged',
    summary: 'Lists events and images of triggers that could not be read',
    capability: 'system:read',
    status: 200,
    answer: ref('Damaged'),
    reach: { merge: mergeDamaged },
    errors: [],
    run: async ({ system }) => ({ body: await system.damaged() }),
  },
  {
    operation: 'retryDamaged',
    method: 'POST',
    path: '/damaged/{id}/retry',
    summary: 'Tries a damaged event or image again',
    capability: 'system:write',
    status: 202,
    errors: [404],
    async run({ system, id }) {
      await system.retryDamaged(id);
      return {};
    },
  },
];
