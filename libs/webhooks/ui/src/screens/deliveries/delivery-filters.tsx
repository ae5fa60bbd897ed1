import type { ReactNode } from 'react';
import { changeQuery } from '../../app/router.js';
import { Button } from '../../design/button.js';
import { Choice, Segments } from '../../design/choice.js';
import { Chip } from '../../design/chip.js';
import { useEventTypes } from '../../session/event-types.js';
import { span } from '../../words/dates.js';
import { t, type Key } from '../../words/words.js';
import { ListenerName } from '../listeners/listener-name.js';
import { errorName } from './delivery-state.js';
import { FILTERS, PERIODS, STATES, type Filters } from './filters.js';

const STATUSES = ['2xx', '3xx', '4xx', '5xx'];
export const ERRORS = [
  'TIMEOUT',
  'CONNECTION_REFUSED',
  'CONNECTION_FAILED',
  'DNS_FAILED',
  'TLS_FAILED',
  'ADDRESS_BLOCKED',
];

/** The filters of the list. The URL contains them, so a reload and a copied link keep them. */
export function DeliveryFilters({ filters }: { readonly filters: Filters }): ReactNode {
  const types = useEventTypes();
  const { state = '', type = '', status, error, period = '' } = filters;
  const result = status ?? error ?? '';
  return (
    <div className="stack tight">
      <div className="filters">
        <Segments
          label={t('column.state')}
          value={state}
          options={[['', t('filter.all')], ...STATES.map((one) => [one, t(`state.${one}` as Key)] as const)]}
          onChange={(value) => changeQuery({ state: value })}
        />
        <Choice
          label={t('filter.type')}
          value={type}
          options={types.map((one) => [one.type, one.type])}
          onChange={(value) => changeQuery({ type: value })}
        />
        <Choice
          label={t('filter.result')}
          value={result}
          options={[
            ...STATUSES.map((one) => [one, `HTTP ${one}`] as const),
            ...ERRORS.map((one) => [one, errorName(one)] as const),
          ]}
          onChange={(value) => changeQuery(resultFilter(value))}
        />
        <Choice
          label={t('filter.period')}
          value={period}
          options={Object.keys(PERIODS).map((one) => [one, t(`period.${one}` as Key)])}
          onChange={(value) => changeQuery({ period: value, since: null, until: null })}
        />
        {Object.keys(filters).length > 0 && (
          <Button
            kind="ghost"
            icon="cross"
            onClick={() => changeQuery(Object.fromEntries(FILTERS.map((name) => [name, null])))}
          >
            {t('action.clear-filters')}
          </Button>
        )}
      </div>
      <Chips filters={filters} />
    </div>
  );
}

function resultFilter(value: string): Record<string, string | null> {
  const isStatus = STATUSES.includes(value);
  return { status: isStatus ? value : null, error: isStatus || value === '' ? null : value };
}

/** Filters that are set by links from other screens. */
function Chips({ filters: { listenerId, eventId, owner, since, until } }: { readonly filters: Filters }): ReactNode {
  if ([listenerId, eventId, owner, since, until].every((one) => one === undefined)) return null;
  return (
    <div className="filters">
      {listenerId !== undefined && (
        <Chip onRemove={() => changeQuery({ listenerId: null })}>
          {t('column.listener')}: <ListenerName id={listenerId} />
        </Chip>
      )}
      {eventId !== undefined && (
        <Chip onRemove={() => changeQuery({ eventId: null })}>
          {t('column.event')}: {eventId}
        </Chip>
      )}
      {owner !== undefined && (
        <Chip onRemove={() => changeQuery({ owner: null })}>
          {t('column.owner')}: {owner}
        </Chip>
      )}
      {(since !== undefined || until !== undefined) && (
        <Chip onRemove={() => changeQuery({ since: null, until: null })}>
          {t('column.created')}: {between(since, until)}
        </Chip>
      )}
    </div>
  );
}

/** A link may contain anything, so a time may be invalid or missing. */
function between(since: string | undefined, until: string | undefined): string {
  const times = [since, until].map((one) => new Date(one ?? '').getTime());
  const [first, last] = times as [number, number];
  return times.some(Number.isNaN) ? `${since ?? '…'} – ${until ?? '…'}` : span(first, last);
}
