import { useMemo, type ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { Choice, Segments } from '../../design/choice.js';
import { visible } from '../../design/code.js';
import type { Columns } from '../../design/grid-table.js';
import { ListTable } from '../../design/list-card.js';
import { Page } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { Ago } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Task } from '../../session/shapes.js';
import { useEvery } from '../../session/use-loaded.js';
import { useRows } from '../../session/use-rows.js';
import { currentLocale } from '../../words/locale.js';
import { t } from '../../words/words.js';
import { KINDS, kindsFor, type TaskKind } from './task-kinds.js';
import { isActive, rateOf, TaskBadge, TaskProgress, TaskSelection } from './task-state.js';

const PAGE = 50;
const POLL_MS = 15_000;
/** While a task makes progress. */
const BUSY_POLL_MS = 2_000;
const STATES = ['queued', 'running', 'done', 'cancelled', 'failed'] as const;

export function TasksScreen(): ReactNode {
  const { query } = usePlace();
  const can = useCan();
  const state = query.get('state') ?? '';
  const kind = query.get('kind') ?? '';
  return (
    <Page title={t('tasks.title')} subtitle={t('tasks.subtitle')} actions={kindsFor(can).length > 0 && <NewTask />}>
      <div className="filters">
        <Segments
          label={t('column.state')}
          value={state}
          options={[['', t('filter.all')], ...STATES.map((one) => [one, t(`tasks.state.${one}`)] as const)]}
          onChange={(value) => changeQuery({ state: value })}
        />
        <Choice
          label={t('column.kind')}
          value={kind}
          options={(Object.keys(KINDS) as TaskKind[]).map((one) => [one, t(`tasks.kind.${one}`)])}
          onChange={(value) => changeQuery({ kind: value })}
        />
      </div>
      <TaskTable state={state} kind={kind} />
    </Page>
  );
}

function NewTask(): ReactNode {
  return (
    <LinkButton kind="primary" icon="plus" href={href('/tasks/new')}>
      {t('tasks.new')}
    </LinkButton>
  );
}

function TaskTable({ state, kind }: { readonly state: string; readonly kind: string }): ReactNode {
  const list = useRows(`${state} ${kind}`, (cursor, signal) => {
    const query = {
      limit: PAGE,
      ...(state !== '' && { state: state as Task['state'] }),
      ...(kind !== '' && { kind: kind as TaskKind }),
      ...(cursor !== undefined && { cursor }),
    };
    return api.listTasks({ query }, { signal });
  });
  useEvery(list.rows.some(isActive) ? BUSY_POLL_MS : POLL_MS, list.refresh);
  const locale = currentLocale();
  const shown = useMemo(columns, [locale]);
  return (
    <ListTable
      list={list}
      label={t('tasks.title')}
      columns={shown}
      lines={5}
      empty={<NoTasks isFiltered={state !== '' || kind !== ''} />}
    />
  );
}

function NoTasks({ isFiltered }: { readonly isFiltered: boolean }): ReactNode {
  const can = useCan();
  if (isFiltered) {
    return (
      <Empty
        icon="filter"
        title={t('tasks.none-filtered')}
        action={<Button onClick={() => changeQuery({ state: null, kind: null })}>{t('action.clear-filters')}</Button>}
      />
    );
  }
  return (
    <Empty
      icon="tasks"
      title={t('tasks.none')}
      text={t('tasks.none.text')}
      action={kindsFor(can).length > 0 && <NewTask />}
    />
  );
}

function columns(): Columns<Task> {
  return [
    {
      name: t('column.kind'),
      width: 'minmax(100px, 2.1fr)',
      cell: ({ id, kind }) => (
        <a className="row-link" href={href(`/tasks/${id}`)}>
          {t(`tasks.kind.${kind}`)}
        </a>
      ),
    },
    {
      name: t('column.state'),
      width: '112px',
      cell: (task) => <TaskBadge task={task} />,
    },
    {
      name: t('column.progress'),
      width: 'minmax(130px, 1.4fr)',
      cell: (task) => <TaskProgress task={task} />,
    },
    {
      name: t('column.filter'),
      width: 'minmax(60px, 1.1fr)',
      isOnlyWide: true,
      cell: ({ filter }) => <TaskSelection filter={filter} />,
    },
    {
      name: t('column.rate'),
      width: 'minmax(70px, 1.1fr)',
      isOnlyWide: true,
      cell: (task) => <span className="secondary">{rateOf(task)}</span>,
    },
    {
      name: t('column.actor'),
      width: 'minmax(64px, 0.9fr)',
      isOnlyWide: true,
      cell: ({ actor }) => (actor === null ? <span className="muted">–</span> : visible(actor)),
    },
    {
      name: t('column.created'),
      width: 'minmax(80px, 0.8fr)',
      cell: ({ createdAt }) => <Ago at={createdAt} />,
    },
  ];
}
