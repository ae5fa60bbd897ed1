import type { ReactNode } from 'react';

const WIDTH = 120;
const HEIGHT = 24;
const GAP = 1;

interface SparklineProps {
  /** The same numbers in words, for people who do not see the drawing. */
  readonly label: string;
  /** For each step, what went well and what did not. */
  readonly points: readonly (readonly [good: number, bad: number])[];
}

/** Small bars without axes. Failures stand on top, and are at least a line high. */
export function Sparkline({ label, points }: SparklineProps): ReactNode {
  const highest = Math.max(1, ...points.map(([good, bad]) => good + bad));
  const step = WIDTH / Math.max(1, points.length);
  const heightOf = (value: number) => (value === 0 ? 0 : Math.max(2, (value / highest) * (HEIGHT - 2)));
  return (
    <svg className="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
      <title>{label}</title>
      {points.map(([good, bad], index) => {
        const x = index * step + GAP / 2;
        const width = Math.max(1, step - GAP);
        const [goodPx, badPx] = [heightOf(good), heightOf(bad)];
        return good + bad === 0 ? (
          <rect key={index} className="spark-none" x={x} y={HEIGHT - 1.5} width={width} height={1.5} />
        ) : (
          <g key={index}>
            <rect className="spark-good" x={x} y={HEIGHT - goodPx} width={width} height={goodPx} />
            <rect className="spark-bad" x={x} y={Math.max(0, HEIGHT - goodPx - badPx)} width={width} height={badPx} />
          </g>
        );
      })}
    </svg>
  );
}
