import type uPlot from 'uplot';

/** A colour of tokens.css or charts.css, by its name without `--`. */
export type Colour = (token: string) => string;

/** A series without the code that draws it, which is loaded with the first chart. */
export type SeriesSpec =
  | { readonly kind: 'bars'; readonly fill: string }
  | { readonly kind: 'line'; readonly stroke: string; readonly width: number; readonly fill?: string };

export interface ChartSpec {
  /** Times in seconds since 1970, then the values of each series. */
  readonly data: uPlot.AlignedData;
  /** The first and the last time, in seconds. */
  readonly times: readonly [from: number, until: number];
  /**
   * Colours are names of tokens. Bars stand on each other if each series has the sum of itself and of those below, and if the highest sum
   * comes first.
   */
  readonly series: readonly SeriesSpec[];
  readonly formatTime: (seconds: number, isDay: boolean) => string;
  readonly formatValue: (value: number) => string;
  /** The scale of the values does not end below this one. */
  readonly atLeast: number;
  /** Whether values are whole numbers, so that the axis has no others. */
  readonly isWhole: boolean;
}
