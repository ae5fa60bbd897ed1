import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { visible } from '../../design/code.js';
import { Id } from '../../design/copy.js';
import { Banner, Card, Facts, Page } from '../../design/page.js';
import { Failed, Skeleton } from '../../design/states.js';
import { At } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useMe } from '../../session/session.js';
import type { Task } from '../../session/shapes.js';
import { useEvery, useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { CancelTask } from './cancel-task.js';
import { isActive, rateOf, TaskBadge, TaskProgress, TaskSelection } from './task-state.js';

const POLL_MS = 1000;

export function TaskScreen({ id }: { readonly id: string }): ReactNode {
  const { data, error, reload } = useLoaded(`task ${id}`, (signal) => api.getTask({ id }, { signal }));
  useEvery(data !== undefined && isActive(data) ? POLL_MS : 0, reload);
  if (data) return <Shown task={data} reload={reload} />;
  return (
    <Page title={t('task.title')} crumbs={[{ text: t('tasks.title'), href: href('/tasks') }]}>
      <Card>{error === undefined ? <Skeleton lines={6} /> : <Failed error={error} retry={reload} />}</Card>
    </Page>
  );
}

function Shown({ task, reload }: { readonly task: Task; readonly reload: () => void }): ReactNode {
  const { kind } = useMe();
  const { error, position } = task;
  return (
    <Page
      title={t(`tasks.kind.${task.kind}`)}
      mark={<TaskBadge task={task} />}
      crumbs={[{ text: t('tasks.title'), href: href('/tasks') }]}
      actions={<CancelTask task={task} reload={reload} />}
    >
      {error !== null && (
        <Banner tone="red" title={t('task.error', { message: visible(error.message) })}>
          <p className="mono">{error.code}</p>
        </Banner>
      )}
      <Card title={t('column.progress')}>
        <div className="stack tight" aria-live="polite">
          <TaskProgress task={task} isWide />
          {task.state === 'queued' && <p className="hint">{t('task.queued.text')}</p>}
        </div>
      </Card>
      <Card title={t('column.details')}>
        <Facts
          facts={[
            [t('column.filter'), <TaskSelection key="filter" filter={task.filter} />],
            [t('column.rate'), rateOf(task)],
            [t('column.actor'), task.actor === null ? t('system.audit.application') : visible(task.actor)],
            [t('column.owner'), kind === 'operator' ? task.owner : null],
            [t('task.created'), <At key="created" at={task.createdAt} />],
            [t('task.started'), task.startedAt === null ? null : <At key="started" at={task.startedAt} />],
            [t('task.updated'), isActive(task) ? <At key="updated" at={task.updatedAt} /> : null],
            [t('task.ended'), task.endedAt === null ? null : <At key="ended" at={task.endedAt} />],
            [t('task.position'), position === null || !isActive(task) ? null : <At key="position" at={position} />],
            [t('task.id'), <Id key="id" id={task.id} />],
          ]}
        />
      </Card>
    </Page>
  );
}
