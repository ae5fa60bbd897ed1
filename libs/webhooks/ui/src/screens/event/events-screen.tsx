import { useMemo, type ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Tag } from '../../design/badge.js';
import { Button } from '../../design/button.js';
import { Choice } from '../../design/choice.js';
import type { Columns } from '../../design/grid-table.js';
import { ListTable } from '../../design/list-card.js';
import { Page } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { Clock } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { useMe } from '../../session/session.js';
import type { StoredEventSummary } from '../../session/shapes.js';
import { inShard } from '../../session/shards.js';
import { useRows } from '../../session/use-rows.js';
import { currentLocale } from '../../words/locale.js';
import { t, type Key } from '../../words/words.js';
import { FirstStep } from '../deliveries/first-step.js';
import { PERIODS, queryOf } from '../deliveries/filters.js';

const PAGE = 100;

export function EventsScreen(): ReactNode {
  const { query } = usePlace();
  const type = query.get('type') ?? '';
  const period = query.get('period') ?? '';
  const types = useEventTypes();
  return (
    <Page title={t('events.title')} subtitle={t('events.subtitle')}>
      <div className="filters">
        <Choice
          label={t('filter.type')}
          value={type}
          options={types.map((one) => [one.type, one.type])}
          onChange={(value) => changeQuery({ type: value })}
        />
        <Choice
          label={t('filter.period')}
          value={period}
          options={Object.keys(PERIODS).map((one) => [one, t(`period.${one}` as Key)])}
          onChange={(value) => changeQuery({ period: value })}
        />
      </div>
      <EventTable type={type} period={period} />
    </Page>
  );
}

function EventTable({ type, period }: { readonly type: string; readonly period: string }): ReactNode {
  const { kind } = useMe();
  const list = useRows(`${type} ${period}`, (cursor, signal) => {
    const { since } = queryOf({ period }) as { since?: Date };
    const query = { limit: PAGE, ...(type && { type }), ...(since && { since }), ...(cursor && { cursor }) };
    return api.listEvents({ query }, { signal });
  });
  const hasOwners = kind === 'operator';
  const locale = currentLocale();
  // The same columns draw no row again when more rows arrive.
  const shown = useMemo(() => columns(hasOwners), [hasOwners, locale]);
  return (
    <ListTable
      list={list}
      label={t('events.title')}
      columns={shown}
      lines={8}
      empty={<NoEvents isFiltered={type !== '' || period !== ''} />}
    />
  );
}

function NoEvents({ isFiltered }: { readonly isFiltered: boolean }): ReactNode {
  if (isFiltered) {
    return (
      <Empty
        icon="filter"
        title={t('events.none-filtered')}
        action={<Button onClick={() => changeQuery({ type: null, period: null })}>{t('action.clear-filters')}</Button>}
      />
    );
  }
  return <Empty icon="inbox" title={t('events.none')} text={t('events.none.text')} action={<FirstStep />} />;
}

function columns(hasOwners: boolean): Columns<StoredEventSummary> {
  return [
    {
      name: t('column.event'),
      width: 'minmax(160px, 1.2fr)',
      cell: ({ id, type, test }) => (
        <span className="row">
          <a className="row-link truncate" href={href(`/events/${id}`)}>
            {type}
          </a>
          {test && <Tag>{t('event.test')}</Tag>}
        </span>
      ),
    },
    {
      name: t('event.id'),
      width: 'minmax(200px, 2fr)',
      isOnlyWide: true,
      cell: ({ id }) => <code className="secondary">{id}</code>,
    },
    ...(hasOwners
      ? [
          {
            name: t('column.owner'),
            width: 'minmax(100px, 1fr)',
            isOnlyWide: true,
            cell: ({ owner, shard }: StoredEventSummary) =>
              owner === null ? <span className="muted">{inShard('–', { shard })}</span> : inShard(owner, { shard }),
          },
        ]
      : []),
    {
      name: t('event.when'),
      width: '124px',
      cell: ({ timestamp }) => <Clock at={timestamp} />,
    },
  ];
}
