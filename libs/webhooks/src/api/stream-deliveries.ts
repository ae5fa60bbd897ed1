import { toAttempt, toDelivery } from '../deliveries/shown-deliveries.js';
import { NOT_STREAMED, type Attempt, type StreamedAttempt } from '../deliveries/delivery.js';
import {
  lastSequence,
  readAttempted,
  readNewDeliveries,
  type BriefAttemptRow,
} from '../store/queue/changed-deliveries.js';
import type { AttemptRow, DeliveryRow } from '../store/queue/delivery-rows.js';
import type { WebhooksRuntime } from '../webhooks-runtime.js';
import type { StreamChange, StreamSource } from './stream-source.js';

const BY_SEQUENCE = {
  event: 'delivery',
  capability: 'deliveries:read',
  overlap: [0, 20_000],
  beginsBefore: 1_000,
  step: 5_000,
  farthest: 100_000,
} as const;

/** New deliveries: pending ones, and deliveries that were recorded together with their first attempt. */
export function newDeliveries({ database }: Pick<WebhooksRuntime, 'database'>): StreamSource {
  return {
    ...BY_SEQUENCE,
    key: 'd',
    last: () => database.single(() => lastSequence(database, 'deliveries')),
    async read(scopes, range) {
      const rows = await database.single(() => readNewDeliveries(database, scopes, range));
      return rows.map((row): StreamChange => {
        const position = Number(row.seq);
        const { outcome } = row;
        if (outcome !== null) return { ...attemptChange({ ...row, ...BY_SCHEDULE, outcome }), position };
        const waiting = { ...placeOf(row), id: row.id, position, at: Number(row.createdAt) };
        return { ...waiting, dataFor: (kind) => ({ delivery: toDelivery(row, kind === 'operator'), attempt: null }) };
      });
    },
  };
}

/** Deliveries with the attempt that was just stored, if the attempt has its own row. */
export function attempts({ database }: Pick<WebhooksRuntime, 'database'>): StreamSource {
  return {
    ...BY_SEQUENCE,
    key: 'a',
    last: () => database.single(() => lastSequence(database, 'attempts')),
    async read(scopes, range) {
      const rows = await database.single(() => readAttempted(database, scopes, range));
      return rows.map((row): StreamChange => ({ ...attemptChange(row), position: Number(row.attemptSeq) }));
    },
  };
}

/** An attempt in the row of its delivery. */
const BY_SCHEDULE = { trigger: null, triggeredBy: null } as const;

type ShownAttempt = DeliveryRow & BriefAttemptRow & Pick<AttemptRow, 'trigger' | 'triggeredBy'>;

function attemptChange(row: ShownAttempt): Omit<StreamChange, 'position'> {
  return {
    ...placeOf(row),
    // After a lost lease, two attempts may have the same number. Their start times differ.
    id: `${row.id}.${Number(row.number)}.${Number(row.startedAt)}`,
    at: Number(row.startedAt) + Number(row.durationMs),
    dataFor(kind) {
      const isOperator = kind === 'operator';
      return { delivery: toDelivery(row, isOperator), attempt: attemptOf(row, isOperator) };
    },
  };
}

/** The attempt without the receiver's answer and without headers, which may have 6 KB. The route of the delivery shows them. */
function attemptOf(row: ShownAttempt, isOperator: boolean): StreamedAttempt {
  const shown: Partial<Attempt> = toAttempt({ ...row, response: null, details: null }, isOperator);
  for (const key of NOT_STREAMED) delete shown[key];
  return shown as StreamedAttempt;
}

function placeOf({ owner, listenerId, type }: DeliveryRow): Pick<StreamChange, 'owner' | 'listenerId' | 'type'> {
  return { owner, listenerId, type };
}
