import { toAttempt, toDelivery } from '../deliveries/shown-deliveries.js';
import { lastSequence, readAttempted, readNewDeliveries } from '../store/queue/changed-deliveries.js';
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
        if (outcome !== null) return { ...attemptChange({ ...row, outcome }), position };
        const waiting = { ...placeOf(row), id: row.id, position, at: Number(row.createdAt) };
        return { ...waiting, dataFor: () => ({ delivery: toDelivery(row), attempt: null }) };
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

type ShownAttempt = DeliveryRow & Omit<AttemptRow, 'response'>;

function attemptChange(row: ShownAttempt): Omit<StreamChange, 'position'> {
  return {
    ...placeOf(row),
    // After a lost lease, two attempts may have the same number. Their start times differ.
    id: `${row.id}.${Number(row.number)}.${Number(row.startedAt)}`,
    at: Number(row.startedAt) + Number(row.durationMs),
    dataFor: (kind) => ({ delivery: toDelivery(row), attempt: attemptOf(row, kind === 'operator') }),
  };
}

/** The attempt without the receiver's answer, which may have 4 KB. The route of the delivery shows the answer. */
function attemptOf(row: ShownAttempt, isOperator: boolean) {
  const { response: _, ...attempt } = toAttempt({ ...row, response: null }, isOperator);
  return attempt;
}

function placeOf({ owner, listenerId, type }: DeliveryRow): Pick<StreamChange, 'owner' | 'listenerId' | 'type'> {
  return { owner, listenerId, type };
}
