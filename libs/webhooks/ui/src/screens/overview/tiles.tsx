import type { ReactNode } from 'react';
import type { Overview, Statistics } from '../../session/shapes.js';
import { attemptsOf, minutesOf } from '../../session/statistics.js';
import { duration } from '../../words/dates.js';
import { rate, share, whole } from '../../words/numbers.js';
import { t } from '../../words/words.js';
import { shownDuration } from '../statistics/durations-chart.js';

interface TileProps {
  readonly name: string;
  readonly value: string;
  readonly note: string;
  readonly tone?: 'red' | 'amber' | undefined;
}

function Tile({ name, value, note, tone }: TileProps): ReactNode {
  return (
    <div className="card tile">
      <dt className="tile-name">{name}</dt>
      <dd className={tone === undefined ? 'tile-value' : `tile-value ${tone}`}>{value}</dd>
      <dd className="tile-note">{note}</dd>
    </div>
  );
}

/** Below this share, the number is red; below the other one, amber. */
const BAD_RATE = 0.9;
const POOR_RATE = 0.99;
/** The queue is late beyond this time: see the alerts in docs/observability.md. */
const LATE_MS = 60_000;

/** The success rate and three more figures in large type. */
export function StatisticsTiles({ statistics }: { readonly statistics: Statistics }): ReactNode {
  const { totals } = statistics;
  const all = attemptsOf(totals);
  const part = totals.accepted / all;
  const none = t('overview.no-attempts');
  return (
    <>
      <Tile
        name={t('overview.success')}
        value={all === 0 ? '–' : share(totals.accepted, all)}
        note={all === 0 ? none : t('overview.success.note', { accepted: totals.accepted, all })}
        tone={part < BAD_RATE ? 'red' : part < POOR_RATE ? 'amber' : undefined}
      />
      <Tile
        name={t('overview.rate')}
        value={rate(all / minutesOf(statistics))}
        note={all === 0 ? none : t('overview.rate.note', { count: whole(all) })}
      />
      <Tile
        name={t('overview.duration')}
        value={shownDuration(totals.p50)}
        note={totals.p95 === null ? none : t('overview.duration.note', { p95: duration(totals.p95) })}
      />
    </>
  );
}

export function Tiles({
  overview: { queueLagMs, outboxLagMs },
  statistics,
}: {
  readonly overview: Overview;
  readonly statistics: Statistics;
}): ReactNode {
  return (
    <dl className="tiles">
      <StatisticsTiles statistics={statistics} />
      <Tile
        name={t('overview.lag')}
        value={duration(queueLagMs)}
        note={t('overview.lag.note', { lag: duration(outboxLagMs) })}
        tone={Math.max(queueLagMs, outboxLagMs) > LATE_MS ? 'amber' : undefined}
      />
    </dl>
  );
}
