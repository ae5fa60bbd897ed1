import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Card } from '../../design/page.js';
import { useCan } from '../../session/session.js';
import type { Overview } from '../../session/shapes.js';
import { whole } from '../../words/numbers.js';
import { t } from '../../words/words.js';

/** The API counts no further. */
const CAPPED_AT = 10_000;

/** The pending work, with links to its lists. */
export function NowCard({ overview }: { readonly overview: Overview }): ReactNode {
  const can = useCan();
  const deliveries = (query: Readonly<Record<string, string>>) =>
    can('deliveries:read') ? href('/deliveries', query) : undefined;
  const figures: readonly (readonly [name: string, count: number, link: string | undefined])[] = [
    [t('overview.pending'), overview.pending, undefined],
    [t('overview.due'), overview.due, deliveries({ state: 'due' })],
    [t('overview.retrying'), overview.retrying, deliveries({ state: 'due' })],
    [t('overview.held'), overview.held, deliveries({ state: 'held' })],
    [t('overview.exhausted'), overview.exhausted24h, deliveries({ state: 'exhausted', period: '24h' })],
    [
      t('overview.disabled'),
      overview.disabled,
      can('listeners:read') ? href('/listeners', { health: 'disabled' }) : undefined,
    ],
  ];
  return (
    <Card title={t('overview.now')} isFlush>
      <dl className="figures">
        {figures.map(([name, count, link]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{link === undefined || count === 0 ? shown(count) : <a href={link}>{shown(count)}</a>}</dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function shown(count: number): string {
  return count >= CAPPED_AT ? `${whole(count)}+` : whole(count);
}
