/** Where a number comes from. */
export interface Figure {
  readonly value: number;
  readonly unit: string;
  readonly what: string;
  /** The command that measured it, and the part of its output. `null`: the number is an assumption. */
  readonly measuredBy: string | null;
  /** For an assumption: its reason. */
  readonly because?: string;
}

const STEP_COSTS = 'npm run bench -- --only step-costs --alone';

function measured(value: number, unit: string, what: string, part = 'step-costs', command = STEP_COSTS): Figure {
  return { value, unit, what, measuredBy: `${command}: ${part}` };
}

function assumed(value: number, unit: string, what: string, because: string): Figure {
  return { value, unit, what, measuredBy: null, because };
}

/**
 * Every number that a plan rests on. The measured ones are of PostgreSQL 15, Node.js 20 and events of 1 KB, on a machine with two cores that
 * other programs used, too. CPU times are in microseconds.
 */
export const FIGURES = {
  directSenderUs: measured(146, 'us', 'CPU time of the sender for a delivery that is sent without a claim'),
  directDatabaseUs: measured(75, 'us', 'CPU time of the database for a delivery that is sent without a claim'),
  directLogBytes: measured(1_378, 'bytes', 'write-ahead log of a delivery that is sent without a claim'),
  directBatches: measured(
    222 / 15_000,
    'batches',
    'routes and records for each delivery of the run that measured `directSenderUs` and `directDatabaseUs`',
  ),
  aloneSenderUs: measured(
    6_202,
    'us',
    'CPU time of the sender for a delivery that is alone in its batches',
    'step-costs-alone',
  ),
  aloneDatabaseUs: measured(4_975, 'us', 'the same of the database', 'step-costs-alone'),
  idleSenderUs: measured(4_194, 'us', 'CPU time of an idle dispatcher in a second', 'step-costs-idle'),
  idleDatabaseUs: measured(2_000, 'us', 'the same of the database', 'step-costs-idle'),
  storedSenderUs: measured(
    65,
    'us',
    'CPU time of the sender to route a delivery that waits for a claim',
    'step-costs-stored',
  ),
  storedDatabaseUs: measured(55, 'us', 'the same of the database', 'step-costs-stored'),
  storedLogBytes: measured(1_191, 'bytes', 'write-ahead log of a delivery that waits for a claim', 'step-costs-stored'),
  claimedSenderUs: measured(
    195,
    'us',
    'CPU time of the sender to claim, send and record a stored delivery',
    'step-costs-claimed',
  ),
  claimedDatabaseUs: measured(179, 'us', 'the same of the database', 'step-costs-claimed'),
  claimedLogBytes: measured(
    2_852,
    'bytes',
    'write-ahead log of the claim and the record of a stored delivery',
    'step-costs-claimed',
  ),
  eventDatabaseUs: measured(15, 'us', 'CPU time of the database to insert an event', 'step-costs-event'),
  eventLogBytes: measured(1_628, 'bytes', 'write-ahead log of an inserted event', 'step-costs-event'),
  routeRoundTrips: measured(3, '', 'round trips of a batch of events', 'step-costs'),
  claimRoundTrips: measured(8, '', 'round trips of a claim', 'step-costs-claimed'),
  recordRoundTrips: measured(1, '', 'round trips of a record', 'step-costs'),
  eventBytes: measured(1_292, 'bytes', 'disk of an event with its indexes'),
  deliveryBytes: measured(781, 'bytes', 'disk of a delivery with its attempt and its indexes'),
  processMegabytes: measured(
    266,
    'MB',
    'memory of a process at most',
    'memory',
    'npm run bench -- --only memory --full --alone',
  ),
  eventRowWrites: measured(2, 'rows', 'rows of an event: the event and its outbox row', 'step-costs-event'),
  directRowWrites: measured(
    2,
    'rows',
    'the delivery, and the end of its outbox row',
    'rowWrites of drain',
    'npm run bench -- --only drain --alone',
  ),
  storedRowWrites: measured(2, 'rows', 'the delivery and the end of its outbox row', 'step-costs-stored'),
  claimedRowWrites: measured(2, 'rows', 'the lease and the record of a delivery', 'step-costs-claimed'),
  payloadBytes: measured(1_024, 'bytes', 'body of the measured events'),
  sendShare: assumed(
    0.5,
    '',
    'share of the request in the CPU time of a direct delivery',
    'undici, signing and half of the rest of the profile in docs/performance.md',
  ),
  roundTripMs: assumed(0.3, 'ms', 'time of a round trip to the database', 'two machines in one zone'),
  noticeMs: assumed(
    20,
    'ms',
    'longest time until another process knows of a commit',
    'processes notify each other at most once in 20 ms',
  ),
  senderShare: assumed(
    0.6,
    '',
    'share of a core that a process may use on average',
    'room for bursts and for garbage collection',
  ),
  databaseShare: assumed(
    0.5,
    '',
    'share of the cores of the database that webhooks may use',
    'the rest is for vacuum, checkpoints and the application',
  ),
  slotShare: assumed(0.7, '', 'share of the slots that may be in use on average', 'room for bursts'),
  mostSlots: assumed(512, 'slots', 'slots of a process at most', 'each may hold a body of 256 KB and a connection'),
  deletedLogBytes: assumed(
    100,
    'bytes',
    'write-ahead log of a row that retention deletes',
    'a record of 54 bytes, and a part of the page image',
  ),
  deletedDatabaseUs: assumed(
    5,
    'us',
    'CPU time of the database for a row that retention deletes',
    'the delete, its part of vacuum',
  ),
  manyProcesses: assumed(
    8,
    'processes',
    'processes from which the engine of BullMQ pays off',
    'each search skips what every other process holds; an idle process alone takes 0.2 % of a core of the database',
  ),
  oneDatabaseCores: assumed(32, 'cores', 'cores of one database at most', 'larger machines are rare and expensive'),
  oneDatabaseLogMegabytes: assumed(
    100,
    'MB/s',
    'write-ahead log of one database at most',
    'one replica and one archive must keep up',
  ),
  oneDatabaseTerabytes: assumed(4, 'TB', 'webhook tables of one database at most', 'a backup must end in a night'),
  partitionedEventsPerDay: assumed(
    3e6,
    'events',
    'events a day from which partitions pay off',
    'docs/partitions.md: a few million',
  ),
} as const satisfies Record<string, Figure>;
