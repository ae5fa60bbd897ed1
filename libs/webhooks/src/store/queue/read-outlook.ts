import sql from 'sql-template-tag';
import type { Database } from '../database/database.js';
import { parseSending, selectSending, type SendingState } from '../system/sending.js';
import { databaseMs } from '../database/database-time.js';
import { isClaimable, isWide } from '../outbox/event-state.js';
import { firstImage } from '../outbox/images.js';
import { query, type Script } from '../database/script.js';
import { numberOrNull } from '../database/number-or-null.js';

/** The pending work that an idle dispatcher must find. A `null` means that there is no work of this kind. */
export interface Outlook {
  /** Whether an event can be claimed: it is new, or the lease of another process has expired. */
  readonly hasEvents: boolean;
  /** Whether an image is waiting for its conversion to events. */
  readonly hasImages: boolean;
  /** Whether a wide event is being fanned out. */
  readonly hasWide: boolean;
  /** The time at which the next listener must be checked. */
  readonly readyAt: number | null;
  /** The time at which the first lease of a delivery expires, or the lease of the first event of the outbox. */
  readonly leaseUntil: number | null;
  /** Whether sending is paused. */
  readonly sending: SendingState;
  /** The time of the database. */
  readonly databaseMs: number;
}

/**
 * Reads the outlook by one query. An idle dispatcher sends no other statement. @param tablePaths the tables whose images this process
 * converts
 */
export function* readOutlook(database: Database, now: number, tablePaths: readonly string[] = []): Script<Outlook> {
  const { outbox: o, deliveries: d, listenerState: s } = database.tables;
  const [row] = yield* query<{
    event: unknown;
    first: unknown;
    image: unknown;
    wide: unknown;
    ready: unknown;
    lease: unknown;
    sending: string | null;
    now: unknown;
  }>(
    sql`select (select o.${o.$.seq} from ${o.sql} o where ${isClaimable(database, now)} order by o.${o.$.seq} limit 1) as event, (select o.${o.$.leaseUntil} from ${o.sql} o order by o.${o.$.seq} limit 1) as first, ${tablePaths.length ? firstImage(database, tablePaths) : sql`null`} as image, (select o.${o.$.seq} from ${o.sql} o where ${isWide(database)} order by o.${o.$.seq} limit 1) as wide, (select min(s.${s.$.readyAt}) from ${s.sql} s) as ready, (select d.${d.$.leaseUntil} from ${d.sql} d where d.${d.$.state} = 'leased' order by d.${d.$.leaseUntil} limit 1) as lease, ${selectSending(database)} as sending, ${databaseMs(database.dialect)} as now`,
  );
  return {
    hasEvents: numberOrNull(row?.event) !== null,
    hasImages: numberOrNull(row?.image) !== null,
    hasWide: numberOrNull(row?.wide) !== null,
    readyAt: numberOrNull(row?.ready),
    leaseUntil: earlier(numberOrNull(row?.lease), numberOrNull(row?.first)),
    sending: parseSending(row?.sending),
    databaseMs: Number(row?.now),
  };
}

/** The earlier of two times. An event that no process has claimed has the time 0. */
function earlier(a: number | null, b: number | null): number | null {
  const times = [a, b].filter((time) => time !== null && time > 0) as number[];
  return times.length ? Math.min(...times) : null;
}
