import type { ReactNode } from 'react';
import { Badge, type Tone } from '../../design/badge.js';
import { visible } from '../../design/code.js';
import type { Task } from '../../session/shapes.js';
import { absolute, span } from '../../words/dates.js';
import { t, type Key } from '../../words/words.js';
import { errorName } from '../deliveries/delivery-state.js';
import { ListenerName } from '../listeners/listener-name.js';
import { Meter } from '../system/meter.js';

const TONES: Readonly<Record<Task['state'], Tone>> = {
  queued: 'blue',
  running: 'blue',
  done: 'green',
  cancelled: 'gray',
  failed: 'red',
};

export function isActive({ state }: Task): boolean {
  return state === 'queued' || state === 'running';
}

export function TaskBadge({ task: { state } }: { readonly task: Task }): ReactNode {
  return <Badge tone={TONES[state]}>{t(`tasks.state.${state}`)}</Badge>;
}

const METERS = { queued: undefined, running: undefined, done: 'green', cancelled: 'gray', failed: 'red' } as const;

/** How far it is. The estimate is from the beginning, so more may be done in the end. */
export function TaskProgress({ task, isWide = false }: { readonly task: Task; readonly isWide?: boolean }): ReactNode {
  const { done, estimate, state } = task;
  const all = state === 'done' ? done : estimate;
  const text =
    all === null ? t('tasks.progress.unknown', { done }) : t('tasks.progress', { done, estimate: Math.max(all, done) });
  return (
    <span className={isWide ? 'progress wide' : 'progress'}>
      {all !== null && (
        <Meter
          done={state === 'done' ? 1 : done}
          of={state === 'done' ? 1 : all}
          tone={METERS[state]}
          isWide={isWide}
        />
      )}
      <span className="nowrap">{text}</span>
    </span>
  );
}

export function rateOf({ ratePerSecond }: Task): string {
  return ratePerSecond === null ? t('tasks.rate.none') : t('tasks.rate', { rate: ratePerSecond });
}

/** Which deliveries a task is about, in a line. */
export function TaskSelection({ filter }: { readonly filter: Task['filter'] }): ReactNode {
  const { listenerId, since, until, states, types, error, owner, entity, entityId, eventId } = filter;
  const texts = [
    types?.join(', '),
    states?.map((state) => t(`state.${state}` as Key)).join(', '),
    error === undefined ? undefined : errorName(error),
    owner === undefined ? undefined : `${t('column.owner')}: ${owner}`,
    entity === undefined ? undefined : `${entity} ${entityId ?? ''}`,
    eventId,
    periodOf(since, until),
  ].filter((one): one is string => Boolean(one));
  if (listenerId === undefined && texts.length === 0) return <span className="secondary">{t('tasks.everything')}</span>;
  return (
    <span>
      {listenerId !== undefined && <ListenerName id={listenerId} />}
      <span className="secondary">
        {listenerId !== undefined && texts.length > 0 && ' · '}
        {visible(texts.join(' · '))}
      </span>
    </span>
  );
}

function periodOf(since: Date | string | undefined, until: Date | string | undefined): string | undefined {
  if (since !== undefined && until !== undefined) return span(new Date(since).getTime(), new Date(until).getTime());
  if (since !== undefined) return `${t('task.from')} ${absolute(since)}`;
  return until === undefined ? undefined : `${t('task.to')} ${absolute(until)}`;
}
