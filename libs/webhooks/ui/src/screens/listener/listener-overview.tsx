import type { ReactNode } from 'react';
import { changeQuery, usePlace } from '../../app/router.js';
import { Segments } from '../../design/choice.js';
import { Ago, Upcoming } from '../../design/time.js';
import { Card } from '../../design/page.js';
import type { Listener } from '../../session/shapes.js';
import { RANGES, rangeOf, useStatistics } from '../../session/statistics.js';
import { whole } from '../../words/numbers.js';
import { t, type Key } from '../../words/words.js';
import { StatisticsTiles } from '../overview/tiles.js';
import { AttemptsChart } from '../statistics/attempts-chart.js';
import { DurationsChart } from '../statistics/durations-chart.js';
import { LoadedPart } from '../system/loaded.js';

/** How the receiver did, over time. */
export function ListenerOverview({ listener }: { readonly listener: Listener }): ReactNode {
  const range = rangeOf(usePlace().query);
  const statistics = useStatistics(range, listener.id);
  const { health } = listener;
  return (
    <>
      <Segments
        label={t('filter.period')}
        value={range}
        options={Object.keys(RANGES).map((one) => [one, t(`period.${one}` as Key)])}
        onChange={(value) => changeQuery({ range: value })}
      />
      <LoadedPart loaded={statistics} lines={8}>
        {(data) => (
          <>
            <dl className="tiles is-three">
              <StatisticsTiles statistics={data} />
            </dl>
            <AttemptsChart statistics={data} listenerId={listener.id} />
            <div className="overview-pair">
              <DurationsChart statistics={data} />
              <Card title={t('overview.now')} isFlush>
                <dl className="figures">
                  <div>
                    <dt>{t('column.waiting')}</dt>
                    <dd>{whole(health.waiting)}</dd>
                  </div>
                  <div>
                    <dt>{t('column.failures')}</dt>
                    <dd>{whole(health.failuresInARow)}</dd>
                  </div>
                  <div>
                    <dt>{t('column.failing-since')}</dt>
                    <dd>{health.failingSince === null ? '–' : <Ago at={health.failingSince} />}</dd>
                  </div>
                  <div>
                    <dt>{t('column.probe')}</dt>
                    <dd>
                      <Upcoming at={health.pausedUntil} />
                    </dd>
                  </div>
                  <div>
                    <dt>{t('column.last-accepted')}</dt>
                    <dd>{health.lastAcceptedAt === null ? '–' : <Ago at={health.lastAcceptedAt} />}</dd>
                  </div>
                </dl>
              </Card>
            </div>
          </>
        )}
      </LoadedPart>
    </>
  );
}
