import { useEffect, useRef, useState, type ReactNode } from 'react';
import uPlot from 'uplot';
import type { ChartSpec, Colour, SeriesSpec } from './chart-spec.js';
import { colourOf, useIsDark } from './scheme.js';

const HEIGHT_PX = 240;
const AXIS_FONT_PX = 11;
const DAY_S = 86_400;
/** The tip is placed at the other side of the pointer beyond this share of the width. */
const TIP_TURNS_AT = 0.6;

interface ChartProps {
  readonly spec: ChartSpec;
  /** What is shown beside the pointer. */
  readonly tip: (index: number) => ReactNode;
  /** @param value of the place that was clicked, on the scale of the values */
  readonly onPick?: ((index: number, value: number) => void) | undefined;
}

interface Pointed {
  readonly index: number;
  readonly left: number;
  readonly isRight: boolean;
}

/** A drawing for people who see. `ChartCard` shows the same numbers as a table beside it. */
export default function Chart({ spec, tip, onPick }: ChartProps): ReactNode {
  const place = useRef<HTMLDivElement>(null);
  const [pointed, setPointed] = useState<Pointed | null>(null);
  const pick = useRef(onPick);
  pick.current = onPick;
  const isDark = useIsDark();
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const chart = new uPlot(optionsOf(spec, element, setPointed), spec.data, element);
    const { over } = chart;
    over.addEventListener('click', () => {
      const { idx, top } = chart.cursor;
      if (idx !== null && idx !== undefined) pick.current?.(idx, chart.posToVal(top ?? 0, 'y'));
    });
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      setPointed(null);
    };
    // The colours are those of the theme.
  }, [spec, isDark]);
  return (
    <div className={onPick ? 'chart can-pick' : 'chart'} aria-hidden="true">
      <div ref={place} className="chart-place" />
      {pointed !== null && (
        <div className={pointed.isRight ? 'chart-tip is-left' : 'chart-tip'} style={{ left: pointed.left }}>
          {tip(pointed.index)}
        </div>
      )}
    </div>
  );
}

function optionsOf(spec: ChartSpec, element: HTMLElement, point: (pointed: Pointed | null) => void): uPlot.Options {
  const colour: Colour = (token) => colourOf(token, element);
  const line = { stroke: colour('chart-grid'), width: 1 };
  const font = `${AXIS_FONT_PX}px ${getComputedStyle(element).fontFamily}`;
  const axis = { stroke: colour('text-3'), font, ticks: { show: false } } as const;
  return {
    width: element.clientWidth,
    height: HEIGHT_PX,
    padding: [12, 32, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      x: { time: true, range: () => [...spec.times] as [number, number] },
      y: { range: (_, __, max) => [0, Math.max(max * 1.08, spec.atLeast)] },
    },
    series: [{}, ...spec.series.map((one) => seriesOf(one, colour))],
    axes: [
      {
        ...axis,
        grid: { show: false },
        border: { show: true, ...line },
        size: 32,
        space: 64,
        values: (_, splits, __, ___, step) => splits.map((at) => spec.formatTime(at, step >= DAY_S)),
      },
      {
        ...axis,
        grid: line,
        size: 56,
        space: 36,
        values: (_, splits) => splits.map((value) => spec.formatValue(value)),
        ...(spec.isWhole && { incrs: WHOLE_STEPS }),
      },
    ],
    hooks: {
      setCursor: [
        (chart) => {
          const { idx, left = -1 } = chart.cursor;
          if (idx === null || idx === undefined || left < 0) return point(null);
          const at = chart.valToPos(chart.data[0][idx] as number, 'x');
          point({ index: idx, left: at + chart.over.offsetLeft, isRight: at > chart.over.clientWidth * TIP_TURNS_AT });
        },
      ],
    },
  };
}

const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();

function seriesOf(spec: SeriesSpec, colour: Colour): uPlot.Series {
  if (spec.kind === 'bars') {
    const fill = colour(spec.fill);
    const paths = uPlot.paths.bars?.({ size: [0.72, 44] });
    return { fill, stroke: fill, width: 0, points: { show: false }, ...(paths && { paths }) };
  }
  const stroke = colour(spec.stroke);
  return {
    ...{ stroke, width: spec.width, spanGaps: false },
    ...(spec.fill !== undefined && { fill: colour(spec.fill) }),
    // No line ends at a value that stands alone.
    points: { show: true, size: 6, fill: stroke, width: 0, filter: (chart, index) => lonely(chart.data[index] ?? []) },
  };
}

/** The places of values between gaps. */
function lonely(values: uPlot.AlignedData[number]): number[] {
  const places: number[] = [];
  for (let at = 0; at < values.length; at++) {
    const isAlone = (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
    if ((values[at] ?? null) !== null && isAlone) places.push(at);
  }
  return places;
}
