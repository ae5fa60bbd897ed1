import { useMemo, type ReactNode } from 'react';
import { ChartCard } from '../../design/chart/chart-card.js';
import type { ChartSpec } from '../../design/chart/chart-spec.js';
import type { Statistics } from '../../session/shapes.js';
import { duration, tick } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { middlesOf, stepsOf, timesOf, type Step } from './steps.js';

export function shownDuration(ms: number | null): string {
  return ms === null ? '–' : duration(ms);
}

/** How long attempts took: estimates from a histogram. */
export function DurationsChart({ statistics }: { readonly statistics: Statistics }): ReactNode {
  const steps = useMemo(() => stepsOf(statistics), [statistics]);
  const spec = useMemo(() => specOf(statistics, steps), [statistics, steps]);
  const [p50, p95] = [shownDuration(statistics.totals.p50), shownDuration(statistics.totals.p95)];
  return (
    <ChartCard
      title={t('overview.durations')}
      summary={t('chart.durations.summary', { p50, p95 })}
      legend={[
        { colour: 'bar-5', name: t('chart.p50'), value: p50 },
        { colour: 'bar-band', name: t('chart.p95'), value: p95 },
      ]}
      spec={spec}
      tip={(index) => <Tip step={steps[index]} />}
      table={() => <Table steps={steps} />}
    />
  );
}

function specOf(statistics: Statistics, steps: readonly Step[]): ChartSpec {
  return {
    data: [middlesOf(steps), steps.map(({ p95 }) => p95), steps.map(({ p50 }) => p50)],
    times: timesOf(statistics),
    series: [
      { kind: 'line', stroke: 'chart-5', width: 1, fill: 'chart-band' },
      { kind: 'line', stroke: 'chart-5', width: 2 },
    ],
    formatTime: (seconds, isDay) => tick(seconds * 1000, isDay),
    formatValue: duration,
    atLeast: 10,
    isWhole: false,
  };
}

function Tip({ step }: { readonly step: Step | undefined }): ReactNode {
  if (step === undefined) return null;
  return (
    <>
      <h3>{step.name}</h3>
      <div>
        <span className="secondary">{t('chart.p50')}</span>
        <span className="strong">{shownDuration(step.p50)}</span>
      </div>
      <div>
        <span className="secondary">{t('chart.p95')}</span>
        <span className="strong">{shownDuration(step.p95)}</span>
      </div>
    </>
  );
}

function Table({ steps }: { readonly steps: readonly Step[] }): ReactNode {
  const shown = steps.filter(({ p50 }) => p50 !== null).toReversed();
  return (
    <table className="table rows">
      <caption className="visually-hidden">{t('overview.durations')}</caption>
      <thead>
        <tr>
          <th scope="col">{t('chart.time')}</th>
          <th scope="col" className="end">
            {t('chart.p50')}
          </th>
          <th scope="col" className="end">
            {t('chart.p95')}
          </th>
        </tr>
      </thead>
      <tbody>
        {shown.length === 0 && (
          <tr>
            <td colSpan={3}>{t('overview.no-attempts')}</td>
          </tr>
        )}
        {shown.map(({ from, name, p50, p95 }) => (
          <tr key={from}>
            <th scope="row">{name}</th>
            <td className="end">{shownDuration(p50)}</td>
            <td className="end">{shownDuration(p95)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
