import { useMemo, useState, type ReactNode } from 'react';
import { href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import type { Columns } from '../../design/grid-table.js';
import { ListTable } from '../../design/list-card.js';
import { Page } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { useSelection } from '../../design/selection.js';
import { Clock, Upcoming } from '../../design/time.js';
import { useCan } from '../../session/session.js';
import type { Delivery } from '../../session/shapes.js';
import { clockTime } from '../../words/dates.js';
import type { Rows } from '../../session/use-rows.js';
import { currentLocale } from '../../words/locale.js';
import { duration } from '../../words/dates.js';
import { count, t } from '../../words/words.js';
import { ListenerName } from '../listeners/listener-name.js';
import { BulkActions } from './bulk-actions.js';
import { taskOf } from './bulk-task.js';
import { DeliveryBadge, resultOf } from './delivery-state.js';
import { DeliveryFilters } from './delivery-filters.js';
import { FirstStep } from './first-step.js';
import { filtersOf, type Filters } from './filters.js';
import { idOf, useDeliveries } from './use-deliveries.js';

export function DeliveriesScreen(): ReactNode {
  const filters = filtersOf(usePlace().query);
  const [isLive, setLive] = useState(true);
  const list = useDeliveries(filters, isLive);
  return (
    <Page
      title={t('deliveries.title')}
      subtitle={t('deliveries.subtitle')}
      actions={<Live list={list} isLive={isLive} onChange={setLive} />}
    >
      <DeliveryFilters filters={filters} />
      <DeliveryTable list={list} filters={filters} />
    </Page>
  );
}

interface LiveProps {
  readonly list: Rows<Delivery>;
  readonly isLive: boolean;
  readonly onChange: (isLive: boolean) => void;
}

function Live({ list, isLive, onChange }: LiveProps): ReactNode {
  return (
    <>
      <span aria-live="polite">
        {list.fresh.length > 0 && (
          <Button kind="primary" icon="refresh" onClick={list.showFresh}>
            {count('deliveries.new', list.fresh.length)}
          </Button>
        )}
      </span>
      <Button icon={isLive ? 'pause' : 'play'} aria-pressed={!isLive} onClick={() => onChange(!isLive)}>
        {isLive ? t('deliveries.pause') : t('deliveries.live')}
      </Button>
      <Button icon="refresh" aria-label={t('action.refresh')} title={t('action.refresh')} onClick={list.reload} />
    </>
  );
}

/** The rows with their states: also part of the screens of a listener and of an event. */
export function DeliveryTable({
  list,
  filters,
}: {
  readonly list: Rows<Delivery>;
  readonly filters: Filters;
}): ReactNode {
  const { rows, next, reload } = list;
  const can = useCan();
  const selection = useSelection(rows, idOf, ({ type, createdAt }) => `${type}, ${clockTime(createdAt)}`);
  const isSelectable = can('deliveries:resend');
  const { listenerId } = filters;
  const locale = currentLocale();
  // The same columns draw no row again when more rows arrive.
  const shown = useMemo(() => columns(listenerId), [listenerId, locale]);
  return (
    <ListTable
      list={list}
      label={t('deliveries.title')}
      columns={shown}
      lines={8}
      empty={<NoDeliveries filters={filters} />}
      foot={
        <div className="grid-foot">
          {selection.rows.length > 0 ? (
            <BulkActions selection={selection} reload={reload} />
          ) : (
            <>
              <span>
                {next === null ? count('deliveries.shown', rows.length) : count('deliveries.more', rows.length)}
              </span>
              {isSelectable && (
                <a className="only-wide" href={taskOf(filters)}>
                  {t('select.task')}
                </a>
              )}
            </>
          )}
        </div>
      }
      selection={isSelectable ? selection : undefined}
    />
  );
}

function NoDeliveries({ filters }: { readonly filters: Filters }): ReactNode {
  if (Object.keys(filters).length > 0) {
    return (
      <Empty
        icon="filter"
        title={t('deliveries.none-filtered')}
        text={t('deliveries.none-filtered.text')}
        action={<LinkButton href={href('/deliveries')}>{t('action.clear-filters')}</LinkButton>}
      />
    );
  }
  return <Empty icon="inbox" title={t('deliveries.none')} text={t('deliveries.none.text')} action={<FirstStep />} />;
}

/** How long the last attempt took; and from the beginning to the end, if there were several. */
function Took({ delivery }: { readonly delivery: Delivery }): ReactNode {
  const { lastDurationMs, attemptCount, totalDurationMs } = delivery;
  if (lastDurationMs === null) return <span className="muted">–</span>;
  const last = duration(lastDurationMs);
  if (totalDurationMs === null || attemptCount < 2) return last;
  const total = duration(totalDurationMs);
  return (
    <span title={t('duration.total', { last, total })}>
      {last} <span className="muted">/ {total}</span>
    </span>
  );
}

function columns(listenerId: string | undefined): Columns<Delivery> {
  return [
    {
      name: t('column.event'),
      width: 'minmax(96px, 1.8fr)',
      cell: ({ id, type }) => (
        <a className="row-link" href={href(`/deliveries/${id}`)}>
          {type}
        </a>
      ),
    },
    { name: t('column.state'), width: '118px', cell: (delivery) => <DeliveryBadge delivery={delivery} /> },
    ...(listenerId === undefined
      ? [
          {
            name: t('column.listener'),
            width: 'minmax(64px, 1.6fr)',
            cell: (delivery: Delivery) => (
              <span className="secondary">
                <ListenerName id={delivery.listenerId} />
              </span>
            ),
          },
        ]
      : []),
    {
      name: t('filter.result'),
      width: 'minmax(64px, 0.9fr)',
      isOnlyWide: true,
      cell: (delivery) => resultOf(delivery) ?? <span className="muted">–</span>,
    },
    { name: t('column.attempts'), width: '64px', isOnlyWide: true, cell: ({ attemptCount }) => attemptCount },
    {
      name: t('delivery.duration'),
      width: 'minmax(64px, 1.2fr)',
      isOnlyWide: true,
      cell: (delivery) => <Took delivery={delivery} />,
    },
    {
      name: t('column.next'),
      width: 'minmax(64px, 1.4fr)',
      isOnlyWide: true,
      cell: ({ nextAttemptAt }) => <Upcoming at={nextAttemptAt} />,
    },
    {
      name: t('column.created'),
      width: 'minmax(84px, 1.2fr)',
      cell: ({ createdAt }) => <Clock at={createdAt} />,
    },
  ];
}
