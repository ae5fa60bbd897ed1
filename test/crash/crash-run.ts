import { createHash } from 'node:crypto';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { DataSourceOptions } from 'typeorm';
import type { SecurityOptions } from 'nestjs-entity-webhooks';
import type { ReceivedRequest } from 'nestjs-entity-webhooks/testing';
import { sharedProject } from '../support/scratch-project.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { Audit, Parcel, seededRandom, SHARED_COLOUR, type WorkerOptions } from './parcels.js';

/**
 * Small, so that few duplicates are allowed. Leases expire soon, so that the run ends soon. Broken links open the circuits of listeners. The
 * default cooldown of 30 s doubles if the receiver answers the probe with 500, and is then longer than a run waits for its last delivery.
 */
export const DISPATCHER = {
  ...{ concurrency: 8, eventsPerBatch: 20, timeoutMs: 1_500, leaseMs: 4_000, pollIntervalMs: 200 },
  circuit: { cooldownMs: 500, maxCooldownMs: 1_000 },
};
/** Processes that write and send, and are killed. One more process only writes, and is not killed. */
const WORKERS = 2;
/** The processes at the start of a run: the one that only writes is the first. */
export const PROCESSES = 1 + WORKERS;
const SHARED_ROWS = 4;
/** The time from the start of a worker to its kill. */
const LIFE_MS = { from: 100, to: 1_500 };
const SERVER_LIFE_MS = { from: 1_500, to: 4_000 };
/** The share of requests that the receiver answers with 500. */
const FAILING = 0.03;
const DRAINED_WITHIN_MS = 60_000;
const STOPPED_WITHIN_MS = 10_000;
/** Longer than the lock wait of MariaDB, 50 s. */
const ANSWERED_WITHIN_MS = 90_000;

export interface CrashRun {
  database: DataSourceOptions;
  seconds: number;
  seed: number;
  /** A database server that is killed, too. */
  server?: { crash(): Promise<void>; restart(): Promise<void> };
  /** Allows the addresses of the receiver, if it is not on loopback. */
  security?: SecurityOptions;
  /** Makes hosts for the processes. Then no process is killed: the links of the hosts are disturbed instead. */
  network?: (receiverUrl: string) => Promise<CrashNetwork>;
}

/** Hosts with links that break, one for each of the {@link PROCESSES}. */
export interface CrashNetwork {
  /** The database and the receiver, as the hosts reach them. */
  readonly database: DataSourceOptions;
  readonly receiverUrl: string;
  /** A command that runs a program on the host. */
  within(host: number): readonly string[];
  /** Breaks a link of the host, and mends it after a while. */
  disturb(host: number, random: () => number): Promise<void>;
  remove(): Promise<void>;
}

export interface CrashReport {
  kills: number;
  /** Links that broke and were mended. */
  cuts: number;
  restarts: number;
  /** Committed changes. */
  committed: number;
  /** Expected deliveries: each committed change, once for each listener that wants it. */
  wanted: number;
  /** Expected deliveries that were never answered with 2xx. */
  lost: string[];
  /** Requests whose change was not committed, or whose listener does not want it. */
  ghosts: string[];
  /** Deliveries that were answered with 2xx more than once; each repetition counts. */
  duplicates: number;
  /** Changes that arrived at the ordered listener for the first time after a later change of their row. */
  late: string[];
  /** Ids that came with different bodies, and changes that came with different ids. */
  inconsistent: string[];
  /** Workers that ended without a kill, or did not end after a stop. */
  surprises: string[];
}

interface Change {
  type: string;
  change: string;
  colour: string;
}

/** The listeners, by path of the receiver, with the changes that each of them wants. */
const LISTENERS: Record<string, { create: object; wants(change: Change): boolean }> = {
  '/all': { create: { events: ['*'] }, wants: () => true },
  '/deleted': { create: { events: ['parcel.deleted'] }, wants: ({ type }) => type === 'parcel.deleted' },
  '/red': {
    create: { events: ['parcel.created', 'parcel.updated'], where: { colour: 'red' } },
    wants: ({ type, colour }) => colour === 'red' && type !== 'parcel.deleted',
  },
};

/** Only in a network: one request at a time for each row makes the run of a process that is killed much longer. */
const ORDERED: typeof LISTENERS = {
  '/ordered': { create: { events: ['*'], ordering: 'entity', sequence: true }, wants: () => true },
};

/** The program of the workers, compiled against the built library, once in a run. @returns its file */
export async function buildWorkers(): Promise<string> {
  const folder = await sharedProject('crash-workers', async (project) => {
    for (const name of ['worker.ts', 'parcels.ts']) {
      await project.write(`src/${name}`, await readFile(join(import.meta.dirname, name), 'utf8'));
    }
    await project.transpile();
    await project.bundle('worker.js');
  });
  return join(folder, 'dist/worker.js');
}

/** The requests that the receiver got. It stores few bytes per request, because there are many. */
class Received {
  /** By listener and change: the number of 2xx responses. */
  readonly accepted = new Map<string, number>();
  readonly inconsistent = new Set<string>();
  readonly seen = new Map<string, Change>();
  readonly late = new Set<string>();
  private readonly newest = new Map<number, bigint>();
  private readonly bodies = new Map<string, string>();
  private readonly ids = new Map<string, string>();

  note({ url, headers, rawBody, json }: ReceivedRequest, isAccepted: boolean): void {
    const id = String(headers['webhook-id']);
    const { type, data } = json as { type: string; data: Omit<Change, 'type'> & { id: number } };
    const change = `${type} ${data.change}`;
    const key = `${url} ${change}`;
    if (url === '/ordered' && !this.accepted.has(key)) {
      const sequence = BigInt(String(headers['webhook-sequence']));
      if (sequence < (this.newest.get(data.id) ?? 0n)) this.late.add(change);
      else this.newest.set(data.id, sequence);
    }
    this.same(this.bodies, id, createHash('sha256').update(rawBody).digest('base64'));
    this.same(this.ids, change, id);
    this.seen.set(change, { type, change: data.change, colour: data.colour });
    this.accepted.set(key, (this.accepted.get(key) ?? 0) + (isAccepted ? 1 : 0));
  }

  private same(known: Map<string, string>, key: string, value: string): void {
    const before = known.get(key) ?? value;
    if (before !== value) this.inconsistent.add(`${key}: ${before}, then ${value}`);
    known.set(key, value);
  }
}

/**
 * Writers commit and roll back, and workers are killed at random moments and restarted. At the end everything is drained. The audit table
 * in the database defines the expected requests.
 */
export async function crashRun(program: string, run: CrashRun): Promise<CrashReport> {
  const { database, security } = run;
  const webhooks = security ? { security } : {};
  const app = await startApp({ database, webhooks, entities: [Parcel], others: [Audit] });
  try {
    const network = await run.network?.(app.receiver.url);
    const workers = new Workers(program, run, network);
    try {
      return await play(app, workers, run, network);
    } finally {
      await workers.killAll();
      await network?.remove();
    }
  } finally {
    await app.close();
  }
}

async function play(
  app: TestApp,
  workers: Workers,
  { seconds, seed, server }: CrashRun,
  network: CrashNetwork | undefined,
): Promise<CrashReport> {
  const random = seededRandom(seed);
  const between = ({ from, to }: { from: number; to: number }) => from + random() * (to - from);
  const received = new Received();
  app.receiver.respond((request) => {
    const status = random() < FAILING ? 500 : 204;
    received.note(request, status === 204);
    app.receiver.clear();
    return { status };
  });
  await app.dataSource
    .getRepository(Parcel)
    .insert(Array.from({ length: SHARED_ROWS }, () => ({ change: 'first', colour: SHARED_COLOUR })));
  await app.dispatcher.drain();
  const listeners = network ? { ...LISTENERS, ...ORDERED } : LISTENERS;
  const receiverUrl = network?.receiverUrl ?? app.receiver.url;
  for (const [path, { create }] of Object.entries(listeners)) {
    await app.listeners.create({ ...create, url: new URL(path, receiverUrl).href } as never);
  }

  const [, ...first] = await Promise.all(
    [false, ...Array.from({ length: WORKERS }, () => true)].map((autoStart) => workers.start(autoStart)),
  );
  const until = performance.now() + seconds * 1_000;
  const isOver = () => performance.now() >= until;
  const restUpTo = (ms: number) => pause(Math.max(0, Math.min(ms, until - performance.now())));
  let restarts = 0;
  const restartServer = async (killed: NonNullable<CrashRun['server']>) => {
    // The server crashes once, even if the run is short.
    while (!isOver() || restarts === 0) {
      await restUpTo(between(SERVER_LIFE_MS));
      if (isOver() && restarts > 0) return;
      workers.mayFail = true;
      await killed.crash();
      await pause(between({ from: 0, to: 300 }));
      await killed.restart();
      restarts++;
    }
  };
  const killAndStart = async (worker: ChildProcess) => {
    while (!isOver()) {
      await restUpTo(between(LIFE_MS));
      if (isOver()) return;
      await workers.kill(worker);
      worker = await workers.start(true);
    }
  };
  let cuts = 0;
  const disturb = async (host: number, { disturb: once }: CrashNetwork) => {
    while (!isOver()) {
      await restUpTo(between(LIFE_MS));
      await once(host, random);
      cuts++;
    }
  };
  const disturbed = network && Array.from({ length: PROCESSES }, (_, host) => disturb(host, network));
  await Promise.all([server && restartServer(server), ...(disturbed ?? first.map(killAndStart))]);

  await workers.quiet();
  await untilDrained(app);
  await workers.stop();
  const audit: Change[] = await app.dataSource.getRepository(Audit).find();
  const committed = new Map(audit.map((change) => [`${change.type} ${change.change}`, change]));
  const wanted = [...committed].flatMap(([name, change]) =>
    Object.entries(listeners).flatMap(([path, { wants }]) => (wants(change) ? [`${path} ${name}`] : [])),
  );
  const isWanted = new Set(wanted);
  const counts = [...received.accepted.values()];
  return {
    kills: workers.kills,
    cuts,
    restarts,
    committed: committed.size,
    wanted: wanted.length,
    lost: wanted.filter((key) => !received.accepted.get(key)),
    ghosts: [...received.accepted.keys()].filter((key) => !isWanted.has(key)),
    duplicates: counts.reduce((sum, count) => sum + Math.max(0, count - 1), 0),
    late: [...received.late],
    inconsistent: [...received.inconsistent],
    surprises: workers.surprises,
  };
}

/** Waits until no event is in the outbox or under a lease, none is damaged, and no delivery is unfinished. */
async function untilDrained({ dataSource }: TestApp): Promise<void> {
  const deadline = performance.now() + DRAINED_WITHIN_MS;
  for (;;) {
    const left: { what: string; count: unknown }[] = await dataSource.query(
      `select 'events' as what, (select count(*) from webhook_outbox) + (select count(*) from webhook_leases) + (select count(*) from webhook_damaged) as count
       union all select 'deliveries', count(*) from webhook_deliveries where state <> 'succeeded'`,
    );
    if (left.every(({ count }) => Number(count) === 0)) return;
    if (performance.now() > deadline) throw new Error(`not drained in time: ${JSON.stringify(left)}`);
    await pause(50);
  }
}

/** The processes of a run. */
class Workers {
  kills = 0;
  /** Expects a database crash: applications that start meanwhile may fail. */
  mayFail = false;
  readonly surprises: string[] = [];
  private readonly alive = new Set<ChildProcess>();
  private started = 0;

  constructor(
    private readonly program: string,
    private readonly run: CrashRun,
    private readonly network: CrashNetwork | undefined,
  ) {}

  /** Starts a worker, and resolves when it is ready. */
  async start(autoStart: boolean): Promise<ChildProcess> {
    for (;;) {
      const number = ++this.started;
      const options: WorkerOptions = {
        database: this.network?.database ?? this.run.database,
        ...(this.run.security && { security: this.run.security }),
        name: `w${number}`,
        seed: this.run.seed + number,
        autoStart,
        dispatcher: DISPATCHER,
        sharedRows: SHARED_ROWS,
      };
      const within = this.network?.within(number - 1) ?? [];
      const [command, ...args] = [...within, process.execPath, this.program];
      const worker = spawn(command, args, {
        env: { ...process.env, CRASH_WORKER: JSON.stringify(options) },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      });
      let said = '';
      worker.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2_000)));
      this.alive.add(worker);
      const ended = new Promise<false>((resolve) => {
        worker.once('exit', (code, signal) => {
          // Workers that were killed or stopped on purpose are no longer in the list.
          if (this.alive.delete(worker) && !this.mayFail) {
            this.surprises.push(`w${number} ended by itself (${signal ?? code}): ${said}`);
          }
          resolve(false);
        });
      });
      const ready = answer(worker, `start of w${number}`, () => said).then(() => true);
      if (await Promise.race([ready, ended])) return worker;
      if (!this.mayFail) throw new Error(`a worker did not start: ${said}`);
      await pause(100);
    }
  }

  async kill(worker: ChildProcess): Promise<void> {
    if (!this.alive.delete(worker)) return;
    this.kills++;
    await end(worker, 'SIGKILL');
  }

  /** Makes the workers stop writing. */
  async quiet(): Promise<void> {
    await Promise.all(
      [...this.alive].map(async (worker) => {
        const quiet = answer(worker, 'quiet');
        worker.send('quiet');
        await quiet;
      }),
    );
  }

  /** Stops the workers as an operator would. */
  async stop(): Promise<void> {
    await Promise.all(
      [...this.alive].map(async (worker) => {
        this.alive.delete(worker);
        const late = setTimeout(() => {
          this.surprises.push(`a worker did not end within ${STOPPED_WITHIN_MS} ms of SIGTERM`);
          worker.kill('SIGKILL');
        }, STOPPED_WITHIN_MS);
        await end(worker, 'SIGTERM');
        clearTimeout(late);
      }),
    );
  }

  async killAll(): Promise<void> {
    const workers = [...this.alive];
    this.alive.clear();
    await Promise.all(workers.map((worker) => end(worker, 'SIGKILL')));
  }
}

/** The next message of a worker. Rejects after some time, so that a worker that hangs is named, and not the whole run. */
async function answer(worker: ChildProcess, what: string, said = () => ''): Promise<void> {
  const signal = AbortSignal.timeout(ANSWERED_WITHIN_MS);
  await once(worker, 'message', { signal }).catch(() => {
    throw new Error(`no answer within ${ANSWERED_WITHIN_MS} ms to: ${what} (process ${worker.pid}) ${said()}`);
  });
}

async function end(worker: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (worker.exitCode !== null || worker.signalCode !== null) return;
  const exited = once(worker, 'exit');
  worker.kill(signal);
  await exited;
}
