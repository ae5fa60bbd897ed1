import { STEP_MS } from '../../session/statistics.js';
import type { Statistics } from '../../session/shapes.js';
import { span } from '../../words/dates.js';

/** A point of the API. Its type in the client has lost which place has which figure. */
type Point = readonly [number, number, number, number, number, number | null, number | null];

/** One bar. Times are in ms since 1970. */
export interface Step {
  readonly from: number;
  readonly until: number;
  readonly name: string;
  readonly accepted: number;
  readonly rejected: number;
  readonly unreachable: number;
  readonly blocked: number;
  readonly p50: number | null;
  readonly p95: number | null;
}

export function stepsOf({ series, step }: Statistics): readonly Step[] {
  return ((series[0]?.points ?? []) as unknown as readonly Point[]).map((point) => {
    const [from, accepted, rejected, unreachable, blocked, p50, p95] = point;
    const until = from + STEP_MS[step];
    return { from, until, name: span(from, until), accepted, rejected, unreachable, blocked, p50, p95 };
  });
}

/** The middle of each step in seconds: a bar stands over its time. */
export function middlesOf(steps: readonly Step[]): number[] {
  return steps.map(({ from, until }) => (from + until) / 2000);
}

export function timesOf({ since, until }: Statistics): readonly [from: number, until: number] {
  return [new Date(since).getTime() / 1000, new Date(until).getTime() / 1000];
}
