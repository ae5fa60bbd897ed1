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
  /** Whether an event can be claimed. */
  readonly hasEvents: boolean;
  /** Whether an image is waiting for its conversion to events. */
  readonly hasImages: boolean;
  /** Whether a wide event is being fanned out. */
  readonly hasWide: boolean;
  /** The time at which the next listener must be checked. */
  readonly readyAt: number | null;
  /** The time at which the first lease of a delivery expires, or a lease of events. */
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
  const { outbox: o, leases: x, deliveries: d, listenerState: s } = database.tables;
  const [row] = yield* query<{
    event: unknown;
    events_lease: unknown;
    image: unknown;
    wide: unknown;
    ready: unknown;
    lease: unknown;
    sending: string | null;
    now: unknown;
  }>(
    sql`select (select o.${o.$.seq} from ${o.sql} o where ${isClaimable(database)} order by o.${o.$.seq} limit 1) as event, (select min(x.${x.$.leaseUntil}) from ${x.sql} x) as events_lease, ${tablePaths.length ? firstImage(database, tablePaths) : sql`null`} as image, (select o.${o.$.seq} from ${o.sql} o where ${isWide(database)} order by o.${o.$.seq} limit 1) as wide, (select min(s.${s.$.readyAt}) from ${s.sql} s) as ready, (select d.${d.$.leaseUntil} from ${d.sql} d where d.${d.$.state} = 'leased' order by d.${d.$.leaseUntil} limit 1) as lease, ${selectSending(database)} as sending, ${databaseMs(database.dialect)} as now`,
  );
  return {
    hasEvents: numberOrNull(row?.event) !== null,
    hasImages: numberOrNull(row?.image) !== null,
    hasWide: numberOrNull(row?.wide) !== null,
    readyAt: numberOrNull(row?.ready),
    leaseUntil: earlier(numberOrNull(row?.lease), numberOrNull(row?.events_lease)),
    sending: parseSending(row?.sending),
    databaseMs: Number(row?.now),
  };
}

/** The earlier of two times. */
function earlier(a: number | null, b: number | null): number | null {
  const times = [a, b].filter((time) => time !== null);
  return times.length ? Math.min(...times) : null;
}
