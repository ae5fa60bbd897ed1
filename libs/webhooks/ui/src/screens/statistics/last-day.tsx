import type { ReactNode } from 'react';
import { Sparkline } from '../../design/chart/sparkline.js';
import { useLastDay } from '../../session/last-day.js';
import { attemptsOf } from '../../session/statistics.js';
import { whole } from '../../words/numbers.js';
import { count, t } from '../../words/words.js';
import { stepsOf } from './steps.js';

/** The attempts of a listener in 24 hours, as small bars. */
export function LastDay({ listenerId }: { readonly listenerId: string }): ReactNode {
  const statistics = useLastDay(listenerId);
  if (statistics === undefined) return <span className="sparkline" aria-busy="true" />;
  if (statistics === null) return <span className="muted">–</span>;
  const all = attemptsOf(statistics.totals);
  const label =
    all === 0 ? t('chart.24h.none') : count('chart.24h', all, { failed: whole(all - statistics.totals.accepted) });
  return (
    <Sparkline
      label={label}
      points={stepsOf(statistics).map((one) => [one.accepted, one.rejected + one.unreachable + one.blocked])}
    />
  );
}
