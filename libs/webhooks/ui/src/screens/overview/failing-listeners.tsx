import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { Icon } from '../../design/icon.js';
import { Card } from '../../design/page.js';
import { Table, type TableColumns } from '../../design/table.js';
import { Ago, Upcoming } from '../../design/time.js';
import { useCan, useMe } from '../../session/session.js';
import type { Overview } from '../../session/shapes.js';
import { whole } from '../../words/numbers.js';
import { t } from '../../words/words.js';
import { errorName } from '../deliveries/delivery-state.js';
import { titleOf } from '../listeners/listener-name.js';

type Failing = Overview['failing'][number];

/** The listeners that fail for the longest time. */
export function FailingListeners({ listeners }: { readonly listeners: readonly Failing[] }): ReactNode {
  const { kind } = useMe();
  const can = useCan();
  if (listeners.length === 0) {
    return (
      <Card title={t('overview.failing')} isFlush>
        <p className="quiet-note">
          <Icon name="check" size={18} />
          <span>
            <span className="strong">{t('overview.failing.none')}.</span> {t('overview.failing.none.text')}
          </span>
        </p>
      </Card>
    );
  }
  return (
    <Card
      title={t('overview.failing')}
      isFlush
      actions={
        can('listeners:read') && (
          <LinkButton kind="ghost" isSmall href={href('/listeners', { health: 'failing' })}>
            {t('action.show-all')}
          </LinkButton>
        )
      }
    >
      <Table
        label={t('overview.failing')}
        columns={columns(kind === 'operator', can('listeners:read'))}
        rows={listeners}
        keyOf={({ id }) => id}
      />
    </Card>
  );
}

function columns(hasOwners: boolean, hasLinks: boolean): TableColumns<Failing> {
  return [
    {
      name: t('column.listener'),
      className: 'cell-name',
      cell: (one) =>
        hasLinks ? (
          <a className="strong" href={href(`/listeners/${one.id}`)} title={one.url}>
            {titleOf(one)}
          </a>
        ) : (
          <span className="strong">{titleOf(one)}</span>
        ),
    },
    hasOwners && { name: t('column.owner'), cell: ({ owner }) => owner ?? <span className="muted">–</span> },
    {
      name: t('column.error'),
      cell: ({ lastErrorCode }) => (lastErrorCode === null ? '–' : errorName(lastErrorCode)),
    },
    { name: t('column.failures'), className: 'end', cell: ({ failuresInARow }) => whole(failuresInARow) },
    {
      name: t('column.failing-since'),
      cell: ({ failingSince }) => (failingSince === null ? '–' : <Ago at={failingSince} />),
    },
    { name: t('column.probe'), cell: ({ pausedUntil }) => <Upcoming at={pausedUntil} /> },
  ];
}
