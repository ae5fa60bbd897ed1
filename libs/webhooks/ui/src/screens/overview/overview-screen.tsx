import type { ReactNode } from 'react';
import { changeQuery, href, usePlace } from '../../app/router.js';
import { LinkButton } from '../../design/button.js';
import { Segments } from '../../design/choice.js';
import { Banner, Card, Page } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { api } from '../../session/api.js';
import { useCan, useMe } from '../../session/session.js';
import type { Overview, Statistics } from '../../session/shapes.js';
import { attemptsOf, RANGES, rangeOf, useStatistics } from '../../session/statistics.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t, type Key } from '../../words/words.js';
import { AttemptsChart } from '../statistics/attempts-chart.js';
import { DurationsChart } from '../statistics/durations-chart.js';
import { ProcessTable } from '../system/process-table.js';
import { FailingListeners } from './failing-listeners.js';
import { NowCard } from './now-card.js';
import { PausedBanner } from './paused-banner.js';
import { Tiles } from './tiles.js';

const POLL_MS = 10_000;

export function OverviewScreen(): ReactNode {
  const range = rangeOf(usePlace().query);
  const overview = useLoaded('overview', (signal) => api.getOverview(undefined, { signal }), POLL_MS);
  const statistics = useStatistics(range);
  const error = overview.data === undefined ? overview.error : undefined;
  return (
    <Page
      title={t('overview.title')}
      subtitle={t('overview.subtitle')}
      actions={
        <Segments
          label={t('filter.period')}
          value={range}
          options={Object.keys(RANGES).map((one) => [one, t(`period.${one}` as Key)])}
          onChange={(value) => changeQuery({ range: value })}
        />
      }
    >
      {error !== undefined ? (
        <Card>
          <Failed
            error={error}
            retry={() => {
              overview.reload();
              // What made the first request fail has mostly failed this one, too.
              statistics.reload();
            }}
          />
        </Card>
      ) : overview.data === undefined ? (
        <Loading />
      ) : (
        <Shown
          overview={overview.data}
          statistics={statistics.data}
          error={statistics.error}
          retry={statistics.reload}
        />
      )}
    </Page>
  );
}

interface ShownProps {
  readonly overview: Overview;
  readonly statistics: Statistics | undefined;
  readonly error: unknown;
  readonly retry: () => void;
}

function Shown({ overview, statistics, error, retry }: ShownProps): ReactNode {
  const { kind } = useMe();
  return (
    <>
      {overview.pause !== null && <PausedBanner pause={overview.pause} />}
      {kind === 'operator' && overview.processes.length === 0 && (
        <Banner tone="amber" title={t('overview.no-process')}>
          <p>{t('overview.no-process.text')}</p>
        </Banner>
      )}
      {statistics === undefined ? (
        error === undefined ? (
          <Loading />
        ) : (
          <Card>
            <Failed error={error} retry={retry} />
          </Card>
        )
      ) : isUnused(overview, statistics) ? (
        <Unused />
      ) : (
        <>
          <Tiles overview={overview} statistics={statistics} />
          <AttemptsChart statistics={statistics} />
          <div className="overview-pair">
            <DurationsChart statistics={statistics} />
            <NowCard overview={overview} />
          </div>
        </>
      )}
      {(statistics === undefined || !isUnused(overview, statistics)) && (
        <FailingListeners listeners={overview.failing} />
      )}
      {kind === 'operator' && overview.processes.length > 0 && <ProcessTable processes={overview.processes} />}
    </>
  );
}

/** Nothing was sent, and nothing is to be sent. */
function isUnused({ pending, due, retrying, held, failing }: Overview, { totals }: Statistics): boolean {
  return attemptsOf(totals) + pending + due + retrying + held + failing.length === 0;
}

function Unused(): ReactNode {
  const can = useCan();
  return (
    <Card>
      <Empty
        icon="overview"
        title={t('overview.none')}
        text={t('overview.none.text')}
        action={
          can('listeners:read') && (
            <LinkButton kind="primary" href={href('/listeners')}>
              {t('deliveries.none.action')}
            </LinkButton>
          )
        }
      />
    </Card>
  );
}

function Loading(): ReactNode {
  return (
    <Card>
      <Skeleton lines={8} />
    </Card>
  );
}
