import { countEntities, reportTriggers } from '../../migrations/triggers.js';
import { Sealing } from '../../secrets/sealing.js';
import { readChores } from '../../store/database/chores.js';
import type { Database } from '../../store/database/database.js';
import { readDatabaseTime } from '../../store/database/database-time.js';
import { findOtherTables } from '../../store/database/other-prefixes.js';
import { resealListeners } from '../../store/listeners/listener-secrets.js';
import { countDamaged, readOverview } from '../../store/queue/overview.js';
import { dayText } from '../../store/database/partition-names.js';
import { FEWEST_LOCKS, readPartitionHealth } from '../../store/queue/partitions.js';
import { readProcesses } from '../../store/system/processes.js';
import { readSending } from '../../store/system/sending.js';
import { toSending } from '../../system/shown-system.js';
import { MINUTE } from '../../time.js';
import { withRunner } from '../data-source/open-data-source.js';
import { isComplete, tableState } from '../data-source/table-state.js';
import { shownDuration } from '../terminal/durations.js';
import { sendingText } from '../terminal/sending-text.js';
import { counted } from '../terminal/table.js';
import { fail, ok, warn, type Check } from './check.js';
import { declaredTypes, eachListener } from './declared-types.js';

export const tables: Check = {
  name: 'tables',
  async run({ loaded: { resolved, file }, database }) {
    const state = await tableState(database, resolved.tablePrefix);
    const fix = `Run: npx nestjs-entity-webhooks migrate -d ${file}`;
    if (state.missing.length) return fail(`missing or out of date: ${state.missing.join(', ')}`, fix);
    if (!isComplete(state)) {
      return fail(
        `${counted(state.missingIndexes.length, 'index is', 'indexes are')} missing`,
        `Run: ${state.missingIndexes.join('; ')}`,
      );
    }
    if (state.oldestProcess > state.known) {
      return fail(
        `the tables have version ${state.version}, and this release knows version ${state.known}`,
        'Update nestjs-entity-webhooks. See docs/upgrades.md.',
      );
    }
    const others = (await database.single(() => findOtherTables(database))).filter(({ isPending }) => isPending);
    if (others.length) {
      return warn(
        `the tables with the prefix '${others[0]?.prefix}' contain unsent events or deliveries`,
        'Keep an instance with that tablePrefix running until nothing is pending there.',
      );
    }
    const version = `version ${state.version} of ${state.known}`;
    return database.isPartitioned ? partitionsOf(database, version) : ok(version);
  },
};

async function partitionsOf(database: Database, version: string) {
  const now = await database.single(() => readDatabaseTime(database));
  const { isOwner, locks, firstMissing, hasDefaultRows } = await database.single(() =>
    readPartitionHealth(database, now),
  );
  const page = 'See docs/partitions.md.';
  if (!isOwner) return warn('the database user does not own the webhook tables, and cannot make partitions', page);
  if (firstMissing !== null) {
    return warn(
      `${dayText(firstMissing)} has no partition: its rows go to the default partition`,
      `Start a dispatcher: its upkeep makes the partitions of the next days. ${page}`,
    );
  }
  if (hasDefaultRows) {
    return warn(
      'the default partitions have rows: no dispatcher ran when their days began',
      `Retention deletes them. ${page}`,
    );
  }
  if (locks >= FEWEST_LOCKS) return ok(`${version}, partitioned by day`);
  return warn(
    `max_locks_per_transaction is ${locks}, too few for partitioned tables`,
    `Set it to ${FEWEST_LOCKS} or more, and restart PostgreSQL. ${page}`,
  );
}

export const triggers: Check = {
  name: 'triggers',
  needsTables: true,
  async run({ loaded: { dataSource, options, file } }) {
    const { all, byTrigger } = await countEntities(dataSource, options);
    if (!all) {
      return warn(
        'the data source has no entity with webhooks',
        'Name the entities in the DataSource, as for the TypeORM CLI, or in the export `webhooks`.',
      );
    }
    const { missing, outdated, left } = await withRunner(dataSource, (runner) => reportTriggers(runner, options));
    const fix = `Run: npx nestjs-entity-webhooks triggers --install -d ${file}`;
    if (missing.length + outdated.length) {
      const first = [...missing, ...outdated][0];
      return fail(`${missing.length} missing, ${outdated.length} out of date or disabled, such as ${first?.name}`, fix);
    }
    if (left.length) return warn(`${counted(left.length, 'trigger')} on tables that need none`, fix);
    return ok(byTrigger ? `current, for ${counted(byTrigger, 'entity', 'entities')}` : 'no entity needs any');
  },
};

export const sealingKeys: Check = {
  name: 'sealing keys',
  needsTables: true,
  async run({ loaded: { resolved }, database }) {
    const { keys, requireSealed } = resolved.secrets;
    const { resealed, unreadable } = await readSecrets(database, new Sealing(keys, requireSealed));
    if (unreadable.length) {
      return fail(
        `the secrets of ${counted(unreadable.length, 'listener')} cannot be read, such as ${unreadable[0]}`,
        'Add the key with which they were sealed to secrets.keys, after the first key. If it is lost, rotate the secrets with --overlap 0s.',
      );
    }
    if (!keys.length) {
      return warn(
        'secrets.keys is not set: everybody who can read the database or a backup can sign as your application',
        'Make a key with `keys generate`, set it in secrets.keys, and run `keys reseal`. See docs/signing.md.',
      );
    }
    if (!resealed) return ok(`every secret is sealed with '${keys[0]?.id}'`);
    return warn(
      `the secrets of ${counted(resealed, 'listener')} are not sealed, or are sealed with an older key`,
      'Run: npx nestjs-entity-webhooks keys reseal',
    );
  },
};

async function readSecrets(database: Database, sealing: Sealing) {
  const total = { resealed: 0, unreadable: [] as string[] };
  for (let after: string | null = '0'; after !== null;) {
    const options = { sealing, now: Date.now(), after, isDryRun: true };
    const page: { resealed: number; unreadable: readonly string[]; last: string | null } = await database.single(() =>
      resealListeners(database, options),
    );
    total.resealed += page.resealed;
    total.unreadable.push(...page.unreadable);
    after = page.last;
  }
  return total;
}

export const eventTypes: Check = {
  name: 'event types',
  needsTables: true,
  async run({ loaded, database }) {
    const { catalog } = await declaredTypes(loaded);
    const unknown: string[] = [];
    const all = await eachListener(database, ({ id, patterns }) => {
      for (const pattern of patterns) if (pattern !== '*' && !catalog.has(pattern)) unknown.push(`${pattern} of ${id}`);
    });
    if (!unknown.length) return ok(`${counted(all, 'listener')}, all of known types`);
    return warn(
      `${counted(unknown.length, 'subscription')} to types that no event has, such as ${unknown[0]}`,
      'Correct the listener, register the entity, or add the type to publishedTypes. The export `webhooks` must name published types, too.',
    );
  },
};

export const damagedRows: Check = {
  name: 'damaged rows',
  needsTables: true,
  async run({ database }) {
    const { events, images } = await database.single(() => countDamaged(database));
    if (events + images === 0) return ok('none');
    return warn(
      `${counted(events, 'damaged event')}, ${counted(images, 'damaged image')} of triggers`,
      'No event is sent for them. See docs/my-event-did-not-arrive.md for the reason and the repair.',
    );
  },
};

/** The dispatcher searches for events once a second and for chores once a minute, so nothing should be this late. */
const LATE_FROM_MS = 5 * MINUTE;
const CHORES_LATE_FROM_MS = 30 * MINUTE;

/** Checks whether a process dispatches: otherwise events wait and chores are late. */
export const dispatching: Check = {
  name: 'dispatcher',
  needsTables: true,
  async run({ database }) {
    const now = await database.single(() => readDatabaseTime(database));
    const { events, oldestDueAt } = await database.single(() => readOverview(database));
    const { paused } = await database.single(() => readSending(database));
    const waiting = Math.max(
      0,
      ...[events.oldestAt, paused ? null : oldestDueAt].map((at) => (at === null ? 0 : now - at)),
    );
    const fix = 'Start a process with dispatcher.autoStart, or look into its log: the first error says what stops it.';
    if (waiting > LATE_FROM_MS) return fail(`the oldest event waits ${shownDuration(waiting)}`, fix);
    const chores = await database.single(() => readChores(database));
    const timed = chores.filter(({ dueAt }) => dueAt > 0);
    if (!timed.length) return warn('no dispatcher has ever run on these tables', fix);
    const late = timed.filter(({ dueAt, leaseUntil }) => Math.max(dueAt, leaseUntil) < now - CHORES_LATE_FROM_MS);
    if (!late.length) return ok('nothing waits, and the chores run');
    const [first] = late.toSorted((a, b) => a.dueAt - b.dueAt);
    return fail(`the chore '${first?.name}' is late by ${shownDuration(now - (first?.dueAt ?? now))}`, fix);
  },
};

/** A process writes its row every 15 seconds. */
const SILENT_FROM_MS = MINUTE;

/** Finds processes that died or lost the database. */
export const processes: Check = {
  name: 'processes',
  needsTables: true,
  async run({ database }) {
    const now = await database.single(() => readDatabaseTime(database));
    const all = await database.single(() => readProcesses(database));
    const silent = all.filter(({ seenAt }) => seenAt < now - SILENT_FROM_MS);
    const [first] = silent;
    if (!first)
      return ok(all.length ? `${counted(all.length, 'process', 'processes')} dispatch` : 'none dispatches now');
    return warn(
      `${counted(silent.length, 'process', 'processes')} stopped without a shutdown, for example on ${first.host}, not seen for ${shownDuration(now - first.seenAt)}`,
      'Look into the log of that host: the process was killed, or cannot reach the database. Other processes send its deliveries when their leases expire.',
    );
  },
};

export const sending: Check = {
  name: 'sending',
  needsTables: true,
  async run({ database }) {
    const state = toSending(await database.single(() => readSending(database)));
    if (!state.paused) return ok('on');
    return warn(sendingText(state), 'When the reason is gone, run: npx nestjs-entity-webhooks sending resume');
  },
};
