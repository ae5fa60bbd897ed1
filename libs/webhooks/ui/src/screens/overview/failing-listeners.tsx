import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { Icon } from '../../design/icon.js';
import { Card } from '../../design/page.js';
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
      <div className="table-scroll" tabIndex={0} role="region" aria-label={t('overview.failing')}>
        <Table listeners={listeners} />
      </div>
    </Card>
  );
}

function Table({ listeners }: { readonly listeners: readonly Failing[] }): ReactNode {
  const { kind } = useMe();
  const can = useCan();
  const hasOwners = kind === 'operator';
  return (
    <table className="table rows">
      <thead>
        <tr>
          <th scope="col">{t('column.listener')}</th>
          {hasOwners && <th scope="col">{t('column.owner')}</th>}
          <th scope="col">{t('column.error')}</th>
          <th scope="col" className="end">
            {t('column.failures')}
          </th>
          <th scope="col">{t('column.failing-since')}</th>
          <th scope="col">{t('column.probe')}</th>
        </tr>
      </thead>
      <tbody>
        {listeners.map((one) => (
          <tr key={one.id}>
            <td className="cell-name">
              {can('listeners:read') ? (
                <a className="strong" href={href(`/listeners/${one.id}`)} title={one.url}>
                  {titleOf(one)}
                </a>
              ) : (
                <span className="strong">{titleOf(one)}</span>
              )}
            </td>
            {hasOwners && <td>{one.owner ?? <span className="muted">–</span>}</td>}
            <td>{one.lastErrorCode === null ? '–' : errorName(one.lastErrorCode)}</td>
            <td className="end">{whole(one.failuresInARow)}</td>
            <td>{one.failingSince === null ? '–' : <Ago at={one.failingSince} />}</td>
            <td>
              <Upcoming at={one.pausedUntil} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
