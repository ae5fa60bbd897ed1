import { useDeferredValue, useEffect, useMemo, useState, type ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { Choice, Search, Segments } from '../../design/choice.js';
import type { Columns } from '../../design/grid-table.js';
import { ListTable } from '../../design/list-card.js';
import { Page } from '../../design/page.js';
import { useSelection } from '../../design/selection.js';
import { Empty } from '../../design/states.js';
import { Ago } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { rememberListeners } from '../../session/listener-names.js';
import type { Unchanged } from '../../session/run-all.js';
import { useCan, useMe } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { inShard } from '../../session/shards.js';
import { useEvery } from '../../session/use-loaded.js';
import { useRows } from '../../session/use-rows.js';
import { currentLocale } from '../../words/locale.js';
import { whole } from '../../words/numbers.js';
import { t } from '../../words/words.js';
import { LastDay } from '../statistics/last-day.js';
import { BulkSwitch, NotSwitched, type Switched } from './bulk-switch.js';
import { HealthBadge, healthSentence } from './listener-health.js';
import { shortUrl, titleOf } from './listener-name.js';

const PAGE = 100;
const POLL_MS = 15_000;
const HEALTHS = ['active', 'failing', 'pending', 'disabled'] as const;

export function ListenersScreen(): ReactNode {
  const { query } = usePlace();
  const can = useCan();
  const [text, setText] = useState(query.get('q') ?? '');
  const q = useDeferredValue(text.trim());
  const health = query.get('health') ?? '';
  const type = query.get('type') ?? '';
  const types = useEventTypes();
  useEffect(() => {
    const timer = setTimeout(() => {
      if ((query.get('q') ?? '') !== q) changeQuery({ q }, '/listeners');
    }, 250);
    return () => clearTimeout(timer);
    // Only typing changes the URL here.
  }, [q]);
  return (
    <Page
      title={t('listeners.title')}
      subtitle={t('listeners.subtitle')}
      actions={can('listeners:write') && <NewListener />}
    >
      <div className="filters">
        <Search label={t('listeners.search')} value={text} onChange={setText} />
        <Segments
          label={t('column.state')}
          value={health}
          options={[['', t('filter.all')], ...HEALTHS.map((one) => [one, t(`filter.${one}`)] as const)]}
          onChange={(value) => changeQuery({ health: value })}
        />
        <Choice
          label={t('filter.type')}
          value={type}
          options={types.map((one) => [one.type, one.type])}
          onChange={(value) => changeQuery({ type: value })}
        />
      </div>
      <ListenerTable key={`${health} ${type}`} q={query.get('q') ?? ''} health={health} type={type} />
    </Page>
  );
}

function NewListener(): ReactNode {
  return (
    <LinkButton kind="primary" icon="plus" href={href('/listeners/new')}>
      {t('listeners.new')}
    </LinkButton>
  );
}

interface ListenerTableProps {
  readonly q: string;
  readonly health: string;
  readonly type: string;
}

function ListenerTable({ q, health, type }: ListenerTableProps): ReactNode {
  const { kind } = useMe();
  const can = useCan();
  const filter = { ...filterOf(q, health), ...(type && { type }) };
  const list = useRows(JSON.stringify(filter), (cursor, signal) => readPage(filter, cursor, signal), {
    keepsRows: true,
  });
  useEvery(POLL_MS, list.refresh);
  const selection = useSelection(list.rows, idOf, titleOf);
  const [unchanged, setUnchanged] = useState<readonly Unchanged<Listener>[]>([]);
  const finish = (changed: readonly Switched[], left: readonly Unchanged<Listener>[]) => {
    const byId = new Map(changed.map((one) => [one.id, one]));
    // In their places: a list that was scrolled stays as it is.
    list.change((row) => ({ ...row, ...byId.get(row.id) }));
    setUnchanged(left);
    selection.choose(left.map(({ item }) => item.id));
  };
  const hasOwners = kind === 'operator';
  const hasStats = can('stats:read');
  const locale = currentLocale();
  // The same columns draw no row again when more rows arrive.
  const shown = useMemo(() => columns(hasOwners, hasStats), [hasOwners, hasStats, locale]);
  return (
    <>
      {unchanged.length > 0 && <NotSwitched unchanged={unchanged} onClose={() => setUnchanged([])} />}
      <ListTable
        list={list}
        label={t('listeners.title')}
        columns={shown}
        lines={6}
        empty={<NoListeners isFiltered={Object.keys(filter).length > 0} />}
        foot={
          selection.rows.length > 0 && (
            <div className="grid-foot">
              <BulkSwitch selection={selection} onDone={finish} />
            </div>
          )
        }
        selection={can('listeners:write') ? selection : undefined}
      />
    </>
  );
}

async function readPage(filter: Filter, cursor: string | undefined, signal: AbortSignal) {
  const page = await api.listListeners({ query: { limit: PAGE, ...filter, ...(cursor && { cursor }) } }, { signal });
  rememberListeners(page.items);
  return page;
}

function NoListeners({ isFiltered }: { readonly isFiltered: boolean }): ReactNode {
  const can = useCan();
  if (isFiltered) {
    return (
      <Empty
        icon="filter"
        title={t('listeners.none-filtered')}
        action={
          <Button onClick={() => changeQuery({ q: null, health: null, type: null })}>
            {t('action.clear-filters')}
          </Button>
        }
      />
    );
  }
  return (
    <Empty
      icon="listeners"
      title={t('listeners.none')}
      text={t('listeners.none.text')}
      action={can('listeners:write') && <NewListener />}
    />
  );
}

function idOf({ id }: Listener): string {
  return id;
}

interface Filter {
  readonly q?: string;
  readonly health?: 'failing';
  readonly state?: Listener['state'];
  readonly type?: string;
}

function filterOf(q: string, health: string): Filter {
  const text = q === '' ? {} : { q };
  if (health === 'failing') return { ...text, health };
  return health === 'active' || health === 'pending' || health === 'disabled' ? { ...text, state: health } : text;
}

function columns(hasOwners: boolean, hasStats: boolean): Columns<Listener> {
  return [
    { name: t('column.listener'), width: 'minmax(126px, 2.4fr)', cell: (listener) => <Name listener={listener} /> },
    {
      name: t('column.state'),
      width: '118px',
      cell: (listener) => (
        <span title={healthSentence(listener)}>
          <HealthBadge listener={listener} />
        </span>
      ),
    },
    {
      name: t('column.types'),
      width: 'minmax(64px, 1.4fr)',
      isOnlyWide: true,
      cell: ({ events }) => (
        <span className="secondary" dir="ltr" title={events.join(', ')}>
          {typesOf(events)}
        </span>
      ),
    },
    ...(hasOwners ? [ownerColumn()] : []),
    ...(hasStats ? [lastDayColumn()] : []),
    {
      name: t('column.last-accepted'),
      width: 'minmax(70px, 1.1fr)',
      isOnlyWide: true,
      cell: ({ health: { lastAcceptedAt } }) =>
        lastAcceptedAt === null ? <span className="muted">–</span> : <Ago at={lastAcceptedAt} />,
    },
    {
      name: t('column.waiting'),
      width: '64px',
      isOnlyWide: true,
      cell: ({ health: { waiting } }) => (waiting === 0 ? <span className="muted">0</span> : whole(waiting)),
    },
  ];
}

function ownerColumn(): Columns<Listener>[number] {
  return {
    name: t('column.owner'),
    width: 'minmax(56px, 0.9fr)',
    isOnlyWide: true,
    cell: ({ owner, shard }) =>
      owner === null ? <span className="muted">{inShard('–', { shard })}</span> : inShard(owner, { shard }),
  };
}

function lastDayColumn(): Columns<Listener>[number] {
  return {
    name: t('column.last-24h'),
    width: 'minmax(64px, 1.2fr)',
    isOnlyWide: true,
    cell: ({ id }) => <LastDay listenerId={id} />,
  };
}

function Name({ listener }: { readonly listener: Listener }): ReactNode {
  return (
    <span className="row name-and-url" title={listener.url}>
      <a className="row-link truncate" href={href(`/listeners/${listener.id}`)}>
        {titleOf(listener)}
      </a>
      {listener.name && <span className="muted truncate only-wide">{shortUrl(listener.url)}</span>}
    </span>
  );
}

/** `order.*`, or `order.created +3`. */
function typesOf(events: readonly string[]): string {
  const [first = '', ...more] = events;
  if (events.includes('*')) return t('types.all');
  return more.length === 0 ? first : `${first} +${whole(more.length)}`;
}
