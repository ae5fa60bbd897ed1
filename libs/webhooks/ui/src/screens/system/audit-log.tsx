import type { OperationTypes } from 'nestjs-entity-webhooks/client';
import type { ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Button } from '../../design/button.js';
import { Chip } from '../../design/chip.js';
import { Choice } from '../../design/choice.js';
import { visible } from '../../design/code.js';
import { ListCard } from '../../design/list-card.js';
import { Long } from '../../design/long.js';
import { isId, shortId } from '../../design/short-id.js';
import { Empty } from '../../design/states.js';
import { Table, type TableColumns } from '../../design/table.js';
import { Clock } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useRows } from '../../session/use-rows.js';
import { absolute } from '../../words/dates.js';
import { t } from '../../words/words.js';

type Query = NonNullable<OperationTypes['listAudit']['input']['query']>;
type Action = NonNullable<Query['action']>;
type Item = OperationTypes['listAudit']['answer']['items'][number];

const PAGE = 50;

const ACTIONS: readonly Action[] = [
  ...(['listener.created', 'listener.updated', 'listener.removed', 'listener.enabled', 'listener.disabled'] as const),
  ...(['listener.secret_rotated', 'listener.signing_key_rotated', 'secrets.resealed', 'delivery.resent'] as const),
  ...(['delivery.discarded', 'deliveries.recovered', 'deliveries.replayed', 'deliveries.discarded'] as const),
  ...([
    'event.sent',
    'event.erased',
    'events.restored',
    'task.created',
    'task.cancelled',
    'sending.paused',
    'sending.resumed',
  ] as const),
  ...(['session.created', 'session.revoked', 'sessions.revoked', 'owner.erased', 'chores.run'] as const),
  'damaged.retried',
];

/** Who changed what. */
export function AuditLog(): ReactNode {
  const { query } = usePlace();
  const [action, actor, target] = ['action', 'actor', 'target'].map((name) => query.get(name) ?? '') as [
    string,
    string,
    string,
  ];
  return (
    <>
      <div className="filters">
        <Choice
          label={t('system.audit.action')}
          value={action}
          options={ACTIONS.map((one) => [one, one])}
          onChange={(value) => changeQuery({ action: value })}
        />
        {actor !== '' && (
          <Chip onRemove={() => changeQuery({ actor: null })}>
            {t('column.actor')}: {visible(actor)}
          </Chip>
        )}
        {target !== '' && (
          <Chip onRemove={() => changeQuery({ target: null })}>
            {t('column.target')}: {visible(target)}
          </Chip>
        )}
      </div>
      <Entries
        query={{
          ...(action !== '' && { action: action as Action }),
          ...(actor !== '' && { actor }),
          ...(target !== '' && { target }),
        }}
      />
    </>
  );
}

function Entries({ query }: { readonly query: Query }): ReactNode {
  const list = useRows(JSON.stringify(query), (cursor, signal) =>
    api.listAudit({ query: { ...query, limit: PAGE, ...(cursor !== undefined && { cursor }) } }, { signal }),
  );
  const { rows, next, moreError, isLoadingMore, loadMore } = list;
  const { path } = usePlace();
  return (
    <ListCard
      list={list}
      lines={6}
      empty={<NoEntries isFiltered={Object.keys(query).length > 0} />}
      foot={
        next !== null &&
        moreError === undefined && (
          <div className="card-note">
            <Button icon="down" isBusy={isLoadingMore} onClick={loadMore}>
              {t('system.audit.more')}
            </Button>
          </div>
        )
      }
    >
      {/* Entries have no id, and more of them come below these. */}
      <Table label={t('system.tab.audit')} columns={columns(path)} rows={rows} keyOf={(_, index) => index} />
    </ListCard>
  );
}

function NoEntries({ isFiltered }: { readonly isFiltered: boolean }): ReactNode {
  if (!isFiltered) {
    return <Empty icon="system" title={t('system.audit.none')} text={t('system.audit.none.text')} />;
  }
  return (
    <Empty
      icon="filter"
      title={t('system.audit.none-filtered')}
      action={
        <Button onClick={() => changeQuery({ action: null, actor: null, target: null })}>
          {t('action.clear-filters')}
        </Button>
      }
    />
  );
}

/** Where an object is shown, by the prefix of its id. */
const SCREENS: Readonly<Record<string, string>> = {
  lst: '/listeners',
  dlv: '/deliveries',
  evt: '/events',
  tsk: '/tasks',
};

function columns(path: string): TableColumns<Item> {
  return [
    { name: t('column.when'), cell: ({ at }) => <Clock at={at} /> },
    { name: t('column.action'), cell: ({ action }) => <span className="mono nowrap">{action}</span> },
    {
      name: t('column.actor'),
      className: 'cell-actor',
      cell: ({ actor }) =>
        actor === null ? (
          <span className="muted">{t('system.audit.application')}</span>
        ) : (
          <a href={href(path, { tab: 'audit', actor })}>{visible(actor)}</a>
        ),
    },
    { name: t('column.target'), cell: ({ target }) => <Target target={target} /> },
    {
      name: t('column.details'),
      className: 'secondary cell-details',
      cell: ({ details }) => <Long text={(details !== null && visible(textOf(details))) || '–'} />,
    },
  ];
}

function Target({ target }: { readonly target: string | null }): ReactNode {
  if (target === null) return <span className="muted">{t('system.audit.instance')}</span>;
  const screen = SCREENS[target.slice(0, 3)];
  if (screen === undefined) {
    return (
      <span className={isId(target) ? 'mono nowrap' : 'break'} title={target}>
        {visible(shortId(target))}
      </span>
    );
  }
  return (
    <a className="mono nowrap" href={href(`${screen}/${target}`)} title={target}>
      {shortId(target)}
    </a>
  );
}

/** `properties: url, events`: the details of a change in a line. */
function textOf(details: NonNullable<Item['details']>): string {
  return Object.entries(details as Readonly<Record<string, unknown>>)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(', ') : shown(value)}`)
    .join(' · ');
}

function shown(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  return /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(value) ? absolute(value) : value;
}
