import { lazy, Suspense, useState, type ReactNode } from 'react';
import { t } from '../../words/words.js';
import { Segments } from '../choice.js';
import { Card } from '../page.js';
import type { ChartSpec } from './chart-spec.js';

/** Loaded with the first chart: pages without one do not wait for it. */
const Chart = lazy(() => import('./chart.js'));

interface LegendItem {
  /** `bar-1`: see charts.css. */
  readonly colour: string;
  readonly name: string;
  readonly value: string;
}

interface ChartCardProps {
  readonly title: string;
  /** What the chart says, in a sentence. */
  readonly summary: string;
  readonly legend: readonly LegendItem[];
  readonly spec: ChartSpec;
  readonly tip: (index: number) => ReactNode;
  readonly onPick?: (index: number, value: number) => void;
  readonly hint?: string;
  /** The same figures as rows. Only visible ones have links: a link that nobody sees would take the focus. */
  readonly table: (isVisible: boolean) => ReactNode;
}

/** A chart with its legend. The same figures are a table, for screen readers and for everybody who prefers it. */
export function ChartCard(props: ChartCardProps): ReactNode {
  const { title, summary, legend, spec, tip, onPick, hint, table } = props;
  const [view, setView] = useState('chart');
  const isChart = view === 'chart';
  return (
    <Card
      title={title}
      isFlush
      actions={
        <Segments
          label={t('chart.view')}
          value={view}
          options={[
            ['chart', t('chart.chart')],
            ['table', t('chart.table')],
          ]}
          onChange={setView}
        />
      }
    >
      <ul className="legend">
        {legend.map(({ colour, name, value }) => (
          <li key={name}>
            <span className={`legend-mark ${colour}`} aria-hidden="true" />
            <span className="secondary">{name}</span>
            <span className="strong">{value}</span>
          </li>
        ))}
      </ul>
      {isChart && (
        <figure className="chart-figure">
          <figcaption className="visually-hidden">{summary}</figcaption>
          <Suspense fallback={<div className="chart-place" aria-busy="true" />}>
            <Chart spec={spec} tip={tip} onPick={onPick} />
          </Suspense>
          {hint !== undefined && <p className="hint chart-hint">{hint}</p>}
        </figure>
      )}
      <div
        className={isChart ? 'visually-hidden' : 'chart-table'}
        {...(!isChart && { tabIndex: 0, role: 'region', 'aria-label': title })}
      >
        {table(!isChart)}
      </div>
    </Card>
  );
}
