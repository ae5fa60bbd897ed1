import sql, { type Sql } from 'sql-template-tag';
import { inList } from '../database/chunks.js';
import type { Database } from '../database/database.js';
import { execute, type Script } from '../database/script.js';
import {
  isWaiting,
  renderFailureOf,
  UNKNOWN_VERSION,
  type BodyChoice,
  type BodyOf,
  type RenderedBody,
} from './rendered-body.js';

/** A delivery that a claim has leased, with the content of its event. */
export interface LeasedRow {
  readonly seq: unknown;
  readonly listenerId: string;
  readonly type: string;
  readonly body: string | null;
  readonly format: string | null;
  readonly version: unknown;
  readonly eventId: string;
  readonly payload: string;
  readonly context: string | null;
  readonly createdAt: unknown;
}

/** A delivery that still waits, because this process does not offer the version of its listener. */
export interface Waiting {
  readonly listenerId: string;
  readonly type: string;
  readonly version: number;
}

const MIN_WAIT_MS = 60_000;
const MAX_WAIT_MS = 15 * MIN_WAIT_MS;

/**
 * Renders the leased deliveries whose body waits for a process that offers their version, in the version that the listener has now. A body
 * that this process cannot render either waits on, and its lease ends.
 *
 * @returns the deliveries that may be sent, and those that wait on
 */
export function* renderWaiting<R extends LeasedRow>(
  database: Database,
  rows: readonly R[],
  choiceOf: (listenerId: string) => BodyChoice,
  { now, bodyOf }: { readonly now: number; readonly bodyOf: BodyOf },
): Script<{ rendered: R[]; waiting: Waiting[] }> {
  const rendered: R[] = [];
  const waiting: Waiting[] = [];
  for (const row of rows) {
    if (!isWaiting(bodyIn(row))) {
      rendered.push(row);
      continue;
    }
    const { $ } = database.tables.deliveries;
    const { eventId: id, type, payload, context, listenerId } = row;
    let body: RenderedBody;
    try {
      body = bodyOf(choiceOf(listenerId), { id, type, payload, context });
    } catch (error) {
      const failed = sql`${$.state} = ${'discarded'}, ${$.finishedAt} = ${now}, ${$.lastErrorCode} = ${renderFailureOf(error)}`;
      yield* endLease(database, row, failed);
      continue;
    }
    if (isWaiting(body)) {
      const until = now + waitOf(row, now);
      yield* endLease(
        database,
        row,
        sql`${$.state} = ${'due'}, ${$.nextAt} = ${until}, ${$.version} = ${body.version}, ${$.lastErrorCode} = ${UNKNOWN_VERSION}`,
      );
      waiting.push({ listenerId, type, version: body.version as number });
      continue;
    }
    const { format, version } = body;
    yield* write(
      database,
      row,
      sql`${$.body} = ${body.body}, ${$.format} = ${format}, ${$.version} = ${version}, ${$.lastErrorCode} = ${null}`,
    );
    rendered.push({ ...row, ...body });
  }
  return { rendered, waiting };
}

function bodyIn({ body, version }: LeasedRow): Pick<RenderedBody, 'body' | 'version'> {
  return { body, version: version === null ? null : Number(version) };
}

/** The longer a delivery has waited, the less often it is tried: a version that was removed may never come back. */
function waitOf({ createdAt }: LeasedRow, now: number): number {
  return Math.min(MAX_WAIT_MS, Math.max(MIN_WAIT_MS, now - Number(createdAt)));
}

function endLease(database: Database, row: LeasedRow, values: Sql): Script<void> {
  const { $ } = database.tables.deliveries;
  return write(database, row, sql`${values}, ${$.leaseToken} = ${null}, ${$.leaseUntil} = ${null}`);
}

function* write(database: Database, { seq }: LeasedRow, values: Sql): Script<void> {
  const { sql: path, byKey, $ } = database.tables.deliveries;
  yield* execute(sql`update ${path}${byKey} set ${values} where ${$.seq} ${inList([seq])}`);
}
