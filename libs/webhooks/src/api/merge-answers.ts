import type { ListenerPreview } from '../listeners/listener-preview.js';
import { statisticsFrom, type StatsReading } from '../system/statistics.js';
import type { Sending, SystemOverview } from '../system/system-overview.js';
import type { ShardBody } from './route.js';

// One answer from the answers of all shards, for operators.

/** Counts of an overview stop here, also when they are added up. */
const MOST_COUNTED = 10_000;
const FAILING_SHOWN = 5;
/** The most samples of a preview that match, and the most that do not. */
const SAMPLES_SHOWN = 10;

type Bodies = readonly ShardBody[];

/** Adds the name of the shard to an object of an answer. */
export function inShard<T extends object>(shard: string, item: T): T & { readonly shard: string } {
  return { ...item, shard };
}

/** Counts are added up. A lag is that of the shard that is furthest behind. */
export function mergeOverviews(bodies: Bodies): object {
  const overviews = bodies.map(({ shard, body }) => ({ shard, ...(body as SystemOverview) }));
  const sum = (key: 'pending' | 'due' | 'retrying' | 'held' | 'exhausted24h' | 'disabled') =>
    Math.min(
      MOST_COUNTED,
      overviews.reduce((total, overview) => total + overview[key], 0),
    );
  const longest = (key: 'outboxLagMs' | 'queueLagMs') => Math.max(...overviews.map((overview) => overview[key]));
  const failing = overviews.flatMap(({ shard, failing }) => failing.map((one) => inShard(shard, one)));
  return {
    ...{ outboxLagMs: longest('outboxLagMs'), queueLagMs: longest('queueLagMs') },
    ...{ pending: sum('pending'), due: sum('due'), retrying: sum('retrying'), held: sum('held') },
    ...{ exhausted24h: sum('exhausted24h'), disabled: sum('disabled') },
    failing: failing
      .toSorted((a, b) => Number(a.failingSince ?? Infinity) - Number(b.failingSince ?? Infinity))
      .slice(0, FAILING_SHOWN),
    paused: overviews.some(({ paused }) => paused),
    pause: overviews.find(({ pause }) => pause)?.pause ?? null,
    processes: overviews.flatMap(({ shard, processes }) => processes.map((one) => inShard(shard, one))),
  };
}

/** Sending counts as paused if any shard is paused. `shards` has the switch of each. */
export function mergeSending(bodies: Bodies): object {
  const switches = bodies.map(({ shard, body }) => inShard(shard, body as Sending));
  const { shard: _, ...shown } = switches.find(({ paused }) => paused) ?? (switches[0] as (typeof switches)[0]);
  return { ...shown, shards: switches };
}

/** @param bodies figures of the core: see `SystemService.figures()` */
export function mergeStatistics(bodies: Bodies): object {
  return statisticsFrom(bodies.map(({ body }) => body) as unknown as [StatsReading]);
}

export function mergeItems(bodies: Bodies): { items: object[] } {
  return {
    items: bodies.flatMap(({ shard, body }) =>
      (body as { items: readonly object[] }).items.map((item) => inShard(shard, item)),
    ),
  };
}

export function mergeDamaged(bodies: Bodies): object {
  const items = mergeItems(bodies).items as { createdAt: Date }[];
  return {
    items: items.toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime()),
    capped: bodies.some(({ body }) => (body as { capped: boolean }).capped),
  };
}

export function mergePreviews(bodies: Bodies): object {
  const previews = bodies.map(({ body }) => body as ListenerPreview);
  const sum = (key: 'examined' | 'matched') => previews.reduce((total, preview) => total + preview[key], 0);
  const samples = previews
    .flatMap((preview) => preview.samples)
    .toSorted((a, b) => Number(b.timestamp) - Number(a.timestamp));
  const shown = (isMatch: boolean) => samples.filter(({ matched }) => matched === isMatch).slice(0, SAMPLES_SHOWN);
  const kept = new Set([...shown(true), ...shown(false)]);
  return {
    ...{ examined: sum('examined'), matched: sum('matched') },
    since: mostExtreme(previews, 'since', Math.min),
    until: mostExtreme(previews, 'until', Math.max),
    samples: samples.filter((one) => kept.has(one)),
  };
}

function mostExtreme(
  previews: readonly ListenerPreview[],
  key: 'since' | 'until',
  choose: (...times: number[]) => number,
): Date | null {
  const times = previews.flatMap((preview) => preview[key] ?? []).map(Number);
  return times.length ? new Date(choose(...times)) : null;
}
