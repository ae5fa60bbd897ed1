import { useCallback, useEffect, useState, type ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Tag } from '../../design/badge.js';
import { Choice } from '../../design/choice.js';
import { GridTable, type Columns } from '../../design/grid-table.js';
import { Card, Page } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { Clock } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { useMe } from '../../session/session.js';
import type { StoredEventSummary } from '../../session/shapes.js';
import { t, type Key } from '../../words/words.js';
import { PERIODS, queryOf } from '../deliveries/filters.js';

const PAGE = 100;

interface State {
  readonly rows: readonly StoredEventSummary[];
  readonly next: string | null;
  readonly error: unknown;
  readonly isLoading: boolean;
}

const EMPTY: State = { rows: [], next: null, error: undefined, isLoading: true };

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
      <EventTable key={`${type} ${period}`} type={type} period={period} />
    </Page>
  );
}

function EventTable({ type, period }: { readonly type: string; readonly period: string }): ReactNode {
  const { kind } = useMe();
  const [{ rows, next, error, isLoading }, setState] = useState(EMPTY);
  const read = useCallback(
    async (cursor?: string) => {
      const { since } = queryOf({ period }) as { since?: Date };
      const query = { limit: PAGE, ...(type && { type }), ...(since && { since }), ...(cursor && { cursor }) };
      try {
        const page = await api.listEvents({ query });
        setState((before) => ({ ...EMPTY, rows: [...before.rows, ...page.items], next: page.next, isLoading: false }));
      } catch (error) {
        setState((before) => ({ ...before, error, isLoading: false }));
      }
    },
    [type, period],
  );
  useEffect(() => void read(), [read]);
  const loadMore = useCallback(() => void read(next ?? undefined), [read, next]);
  if (rows.length > 0) {
    return (
      <Card isFlush>
        <GridTable
          label={t('events.title')}
          columns={columns(kind === 'operator')}
          rows={rows}
          idOf={({ id }) => id}
          hasMore={next !== null}
          loadMore={loadMore}
        />
      </Card>
    );
  }
  return (
    <Card>
      {error !== undefined ? (
        <Failed error={error} retry={() => void read()} />
      ) : isLoading ? (
        <Skeleton lines={8} />
      ) : (
        <Empty icon="inbox" title={t('events.none')} text={t('events.none.text')} />
      )}
    </Card>
  );
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
            cell: ({ owner }: StoredEventSummary) => owner ?? <span className="muted">–</span>,
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
