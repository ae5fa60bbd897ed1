import type { Shop } from './shop-app.js';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/**
 * Makes a month of figures: more in the day than in the night, some that were rejected, and an outage of a receiver. The charts of a few
 * deliveries would show nothing to look at.
 */
export async function fillStatistics({ dataSource, listeners, clock }: Shop): Promise<void> {
  const { items } = await listeners.list({ limit: 20, state: 'active' });
  const failing = items.find(({ failuresInARow }) => failuresInARow > 3)?.id;
  const ids = ['all', ...items.map(({ id }) => id)];
  const until = Math.floor(clock.now() / (5 * MINUTE)) * 5 * MINUTE;
  for (const [index, id] of ids.entries()) {
    const weight = id === 'all' ? 5 : 1;
    const rows: (string | number)[][] = [];
    for (let at = until - 30 * DAY, spanMs = spanAt(at, until); at < until; at += spanMs) {
      spanMs = spanAt(at, until);
      const day = Math.sin(((at % DAY) / DAY) * 2 * Math.PI - 1.9) + 1.25;
      const accepted = Math.round(weight * day * (spanMs / MINUTE) * (3 + noise(at + index)));
      const isOutage = until - at < 5 * 60 * MINUTE && until - at > 3 * 60 * MINUTE;
      const rejected = noise(at * 3 + index) > 0.86 ? Math.round(accepted * 0.03) + 1 : 0;
      const unreachable = isOutage ? Math.round(accepted * 0.35) : 0;
      const fast = Math.round(accepted * (0.55 + noise(at * 7) * 0.1));
      const slow = isOutage ? Math.round(accepted * 0.25) : Math.round(accepted * 0.03);
      const isDown = id === failing && until - at < 3 * 60 * MINUTE;
      const outcomes = isDown ? [0, rejected + Math.ceil(accepted / 4), 0] : [accepted, rejected, unreachable];
      const lastAcceptedAt = isDown ? 'NULL' : at;
      rows.push([id, spanMs, at, ...outcomes, fast, accepted - fast - slow, slow, lastAcceptedAt]);
    }
    for (let first = 0; first < rows.length; first += 400) {
      await insert(dataSource, rows.slice(first, first + 400));
    }
  }
}

/** Old figures are kept for longer times. */
function spanAt(at: number, until: number): number {
  const age = until - at;
  return age > 6 * DAY ? 60 * MINUTE : age > 120 * MINUTE ? 5 * MINUTE : MINUTE;
}

/** The same for every run, between 0 and 1. */
function noise(seed: number): number {
  const value = Math.sin(seed / 1000) * 10_000;
  return value - Math.floor(value);
}

async function insert(dataSource: Shop['dataSource'], rows: readonly (string | number)[][]): Promise<void> {
  const values = rows.map(
    ([id, spanMs, at, accepted, rejected, unreachable, fast, usual, slow, lastAcceptedAt]) =>
      `('${id}', ${spanMs}, ${at}, ${accepted}, ${rejected}, ${unreachable}, 0, 0, 0, 0, 0, 0, ${fast}, ${usual}, 0, ${slow}, 0, 0, 0, 0, 0, ${lastAcceptedAt})`,
  );
  await dataSource.query(
    `INSERT INTO webhook_stats (listener_id, span_ms, starts_at, accepted, rejected, unreachable, blocked, exhausted, duration_ms,
       up_to10, up_to25, up_to50, up_to100, up_to250, up_to500, up_to1000, up_to2500, up_to5000, up_to10000, up_to30000, longer, last_accepted_at)
     VALUES ${values.join(', ')} ON CONFLICT DO NOTHING`,
  );
}

/** The rows of two processes, one of which has not reported for a while. */
export async function fillProcesses({ dataSource, clock }: Shop): Promise<void> {
  const now = clock.now();
  const processes = [
    ['prc_019ad5a0-0000-7000-8000-000000000001', 'web-7f9c4-x2x8p', now - 3 * DAY, now - 4000, 12],
    ['prc_019ad5a0-0000-7000-8000-000000000002', 'web-7f9c4-q9d4k', now - 2 * DAY, now - 9000, 31],
    ['prc_019ad5a0-0000-7000-8000-000000000003', 'worker-5d8b6-m2j7z', now - DAY, now - 6 * MINUTE, 0],
  ];
  for (const [id, host, startedAt, seenAt, sending] of processes) {
    await dataSource.query(
      `INSERT INTO webhook_processes (id, host, version, started_at, seen_at, sending, concurrency) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      [id, host, '0.1.0', startedAt, seenAt, sending, 50],
    );
  }
}
