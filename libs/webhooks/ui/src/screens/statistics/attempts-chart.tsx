import { useMemo, type ReactNode } from 'react';
import { go, href } from '../../app/router.js';
import { ChartCard } from '../../design/chart/chart-card.js';
import type { ChartSpec } from '../../design/chart/chart-spec.js';
import { useCan } from '../../session/session.js';
import type { Statistics } from '../../session/shapes.js';
import { minutesOf } from '../../session/statistics.js';
import { tick } from '../../words/dates.js';
import { compact, rate, whole } from '../../words/numbers.js';
import { t, type Key } from '../../words/words.js';
import { middlesOf, stepsOf, timesOf, type Step } from './steps.js';

/** From the bottom of a bar to its top. */
const OUTCOMES = ['accepted', 'rejected', 'unreachable', 'blocked'] as const;
type Outcome = (typeof OUTCOMES)[number];

interface AttemptsChartProps {
  readonly statistics: Statistics;
  readonly listenerId?: string;
}

/** Attempts by outcome. A bar leads to the deliveries of its time. */
export function AttemptsChart({ statistics, listenerId }: AttemptsChartProps): ReactNode {
  const can = useCan();
  const steps = useMemo(() => stepsOf(statistics), [statistics]);
  const spec = useMemo(() => specOf(statistics, steps), [statistics, steps]);
  const { totals } = statistics;
  const minutes = minutesOf(statistics);
  const texts = Object.fromEntries(OUTCOMES.map((one) => [one, whole(totals[one])])) as Record<Outcome, string>;
  const isLinked = can('deliveries:read');
  return (
    <ChartCard
      title={t(`overview.attempts.${statistics.step}`)}
      summary={t('chart.attempts.summary', texts)}
      legend={OUTCOMES.map((one, index) => ({
        colour: `bar-${index + 1}`,
        name: t(`chart.${one}`),
        value: `${texts[one]} · ${t('chart.per-minute.short', { rate: rate(totals[one] / minutes) })}`,
      }))}
      spec={spec}
      tip={(index) => <Tip step={steps[index]} />}
      {...(isLinked && {
        hint: t('chart.open'),
        onPick: (index: number, value: number) => {
          const step = steps[index];
          if (step && sumOf(step) > 0) go(deliveriesOf(step, outcomeAt(step, value), listenerId));
        },
      })}
      table={(isVisible) => (
        <Table
          title={t(`overview.attempts.${statistics.step}`)}
          steps={steps}
          listenerId={listenerId}
          isLinked={isVisible && isLinked}
        />
      )}
    />
  );
}

function specOf(statistics: Statistics, steps: readonly Step[]): ChartSpec {
  const sums = OUTCOMES.map((_, last) =>
    steps.map((step) => OUTCOMES.slice(0, last + 1).reduce((sum, one) => sum + step[one], 0)),
  );
  return {
    // The highest sum is drawn first, and the others over it.
    data: [middlesOf(steps), ...sums.toReversed()],
    times: timesOf(statistics),
    series: [4, 3, 2, 1].map((number) => ({ kind: 'bars', fill: `chart-${number}` })),
    formatTime: (seconds, isDay) => tick(seconds * 1000, isDay),
    formatValue: compact,
    atLeast: 4,
    isWhole: true,
  };
}

function sumOf(step: Step): number {
  return OUTCOMES.reduce((sum, one) => sum + step[one], 0);
}

/** The part of a bar at a height. Above the bar, everything is meant. */
function outcomeAt(step: Step, value: number): Outcome | undefined {
  let sum = 0;
  for (const one of OUTCOMES) {
    sum += step[one];
    if (value <= sum) return one;
  }
  return undefined;
}

/** How the list of deliveries finds the outcome. Several codes are unreachable, and the list filters by one. */
const FILTERS: Readonly<Record<Outcome, Readonly<Record<string, string>>>> = {
  accepted: { state: 'succeeded' },
  rejected: { error: 'HTTP_STATUS' },
  unreachable: {},
  blocked: { error: 'ADDRESS_BLOCKED' },
};

function deliveriesOf({ from, until }: Step, outcome: Outcome | undefined, listenerId: string | undefined): string {
  const times = { since: new Date(from).toISOString(), until: new Date(until).toISOString() };
  return href('/deliveries', { ...(outcome && FILTERS[outcome]), listenerId, ...times });
}

function Tip({ step }: { readonly step: Step | undefined }): ReactNode {
  if (step === undefined) return null;
  return (
    <>
      <h3>{step.name}</h3>
      {OUTCOMES.map((one, index) => (
        <div key={one}>
          <span className={`legend-mark bar-${index + 1}`} />
          <span className="secondary">{t(`chart.${one}` satisfies Key)}</span>
          <span className="strong">{whole(step[one])}</span>
        </div>
      ))}
    </>
  );
}

interface TableProps {
  readonly title: string;
  readonly steps: readonly Step[];
  readonly listenerId: string | undefined;
  readonly isLinked: boolean;
}

function Table({ title, steps, listenerId, isLinked }: TableProps): ReactNode {
  const shown = steps.filter((step) => sumOf(step) > 0).toReversed();
  return (
    <table className="table rows">
      <caption className="visually-hidden">{title}</caption>
      <thead>
        <tr>
          <th scope="col">{t('chart.time')}</th>
          {OUTCOMES.map((one) => (
            <th key={one} scope="col" className="end">
              {t(`chart.${one}`)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {shown.length === 0 && (
          <tr>
            <td colSpan={5}>{t('overview.no-attempts')}</td>
          </tr>
        )}
        {shown.map((step) => (
          <tr key={step.from}>
            <th scope="row">
              {isLinked ? <a href={deliveriesOf(step, undefined, listenerId)}>{step.name}</a> : step.name}
            </th>
            {OUTCOMES.map((one) => (
              <td key={one} className="end">
                {isLinked && step[one] > 0 && Object.keys(FILTERS[one]).length > 0 ? (
                  <a href={deliveriesOf(step, one, listenerId)}>{whole(step[one])}</a>
                ) : (
                  whole(step[one])
                )}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
