import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { Capability } from '../../session/session.js';
import type { DeliveryState, Task } from '../../session/shapes.js';

export type TaskInput = OperationTypes['createTask']['input']['body'];
export type TaskKind = Task['kind'];

/** The fields of the form, by their names in the API and in the URL. */
export const FIELDS = [
  ...(['listenerId', 'since', 'until', 'states', 'types', 'error', 'owner', 'entity', 'entityId', 'eventId'] as const),
  'ratePerSecond',
] as const;
export type Field = (typeof FIELDS)[number];
export type Values = Readonly<Partial<Record<Field, string>>>;

interface KindRules {
  readonly capability: Capability;
  readonly fields: readonly Field[];
  readonly states: readonly DeliveryState[];
  /** What the count counts. */
  readonly counts: 'deliveries' | 'events' | 'secrets';
  readonly isDangerous: boolean;
}

const DELIVERIES = ['listenerId', 'since', 'until', 'states', 'types', 'error', 'owner', 'entity', 'entityId'] as const;

/** What each kind of task asks for. The API refuses the rest. */
export const KINDS: Readonly<Record<TaskKind, KindRules>> = {
  recover: {
    ...{ capability: 'deliveries:resend', fields: [...DELIVERIES, 'ratePerSecond'], counts: 'deliveries' },
    ...{ states: ['exhausted', 'discarded'], isDangerous: false },
  },
  replay: {
    ...{ capability: 'deliveries:resend', counts: 'deliveries', states: [], isDangerous: false },
    fields: ['listenerId', 'since', 'until', 'types', 'owner', 'entity', 'entityId', 'ratePerSecond'],
  },
  discard: {
    ...{ capability: 'deliveries:resend', fields: [...DELIVERIES, 'ratePerSecond'], counts: 'deliveries' },
    ...{ states: ['due', 'held'], isDangerous: true },
  },
  erase: {
    ...{ capability: 'erase', fields: ['eventId', 'entity', 'entityId', 'owner', 'ratePerSecond'], counts: 'events' },
    ...{ states: [], isDangerous: true },
  },
  reseal: { capability: 'system:write', fields: [], states: [], counts: 'secrets', isDangerous: false },
};

export function kindsFor(can: (capability: Capability) => boolean): readonly TaskKind[] {
  return (Object.keys(KINDS) as TaskKind[]).filter((kind) => can(KINDS[kind].capability));
}

/** The body of the request, with the fields that the kind has. */
export function bodyOf(kind: TaskKind, values: Values): TaskInput {
  const given = KINDS[kind].fields
    .map((field) => [field, values[field]?.trim() ?? ''] as const)
    .filter(([, value]) => value !== '');
  return { kind, ...Object.fromEntries(given.map(([field, value]) => [field, parsed(field, value)])) } as TaskInput;
}

function parsed(field: Field, value: string): unknown {
  if (field === 'ratePerSecond') return Number(value);
  if (field === 'types' || field === 'states') return value.split(/[\s,]+/).filter(Boolean);
  if (field === 'since' || field === 'until') return instant(value);
  return value;
}

/** The value of a field for local time as a time with a zone. What is no time stays, so that the API can refuse it. */
function instant(value: string): string {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? value : date.toISOString();
}

/** A time as a field for local time has it: `2026-11-30T17:05`. */
export function localTime(at: Date): string {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
