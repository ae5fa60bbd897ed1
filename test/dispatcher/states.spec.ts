import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { EventService, PayloadFormat, RetrySchedule, TaskService } from 'nestjs-entity-webhooks';
import { LOOP_TRANSITIONS, LoopPhase, type Phase } from '../../libs/webhooks/src/dispatcher/loop-phase.js';
import { afterAttempts, isOpen } from '../../libs/webhooks/src/health/circuit.js';
import type { ListenerState } from '../../libs/webhooks/src/health/listener-state.js';
import {
  CIRCUIT_TRANSITIONS,
  DELIVERY_TRANSITIONS,
  EVENT_TRANSITIONS,
  LISTENER_TRANSITIONS,
  TASK_TRANSITIONS,
} from '../../libs/webhooks/src/health/transitions.js';
import { appsOn } from '../support/apps-on.js';
import { describeDatabases } from '../support/databases.js';
import type { TestApp } from '../support/webhooks-app.js';

type Table = Readonly<Record<string, readonly string[]>>;

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** The transitions of a table, as `from --> to`. */
function transitions(table: Table): string[] {
  return Object.entries(table)
    .flatMap(([from, next]) => next.map((to) => `${from} --> ${to}`))
    .toSorted();
}

describe('the diagram in docs/states.md', () => {
  it.each<[string, Table]>([
    ['Event', EVENT_TRANSITIONS],
    ['Delivery', DELIVERY_TRANSITIONS],
    ['Listener', LISTENER_TRANSITIONS],
    ['Task', TASK_TRANSITIONS],
    ['Circuit', CIRCUIT_TRANSITIONS],
    ['Loop of the dispatcher', { new: ['stopped'], ...LOOP_TRANSITIONS }],
  ])('of "%s" has the transitions of the code', async (heading, table) => {
    const page = await readFile(new URL('../../docs/states.md', import.meta.url), 'utf8');
    const section = page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
    const diagram = /```mermaid\nstateDiagram-v2\n(.*?)```/s.exec(section)?.[1] ?? '';
    const drawn = [...diagram.matchAll(/^ {2}(\S+) --> (\w+)/gm)].map(([, from, to]) => `${from} --> ${to}`);
    expect(drawn.map((line) => line.replace('[*]', 'new')).toSorted()).toEqual(transitions(table));
  });
});

describe('the phase of the loop', () => {
  it('moves along its table, and rejects every other move', () => {
    const phases = Object.keys(LOOP_TRANSITIONS) as Phase[];
    const allowed = new Set(transitions(LOOP_TRANSITIONS));
    const paths: Record<Exclude<Phase, 'stopped' | 'stopping'>, readonly Phase[]> = {
      looking: [],
      sleeping: ['sleeping'],
      polling: ['polling'],
      resting: ['resting'],
    };
    for (const [from, path] of Object.entries(paths)) {
      for (const to of phases.filter((phase) => phase !== from && phase !== 'stopping')) {
        const phase = new LoopPhase();
        const run = phase.start();
        for (const step of path) phase.moveTo(step, run);
        const move = () => phase.moveTo(to, run);
        if (allowed.has(`${from} --> ${to}`)) expect(move).not.toThrow();
        else expect(move).toThrow(`'${from}' to '${to}'`);
      }
    }
  });

  it('is not moved by a run that was stopped', () => {
    const phase = new LoopPhase();
    const run = phase.start();
    phase.stop();
    phase.moveTo('sleeping', run);
    expect([phase.isRunning, phase.isStopping, phase.keepsRunning]).toEqual([true, true, false]);
    phase.end();
    phase.moveTo('resting', run);
    expect(phase.isRunning).toBe(false);
  });
});

it('the circuit makes every transition of its table, and no other', () => {
  const policy = { failures: 3, cooldownMs: 10, maxCooldownMs: 40, disableAfterMs: DAY };
  const stateOf = ({ failuresInARow, pausedUntil }: ListenerState, now: number) => {
    if (!isOpen(failuresInARow, policy)) return 'closed';
    return pausedUntil !== null && pausedUntil > now ? 'open' : 'probing';
  };
  const healthy = { failuresInARow: 0, failingSince: null, failuresCountFrom: null, pausedUntil: null };
  const seen = new Set<string>(['new --> closed']);
  const steps = fc.array(fc.record({ waitMs: fc.nat(30), accepted: fc.boolean(), startedAgoMs: fc.nat(5) }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(steps, (made) => {
      let state = healthy as ListenerState;
      let now = 1_000;
      const note = (from: string, to: string) => from !== to && seen.add(`${from} --> ${to}`);
      for (const { waitMs, accepted, startedAgoMs } of made) {
        const before = stateOf(state, now);
        now += waitMs;
        const waited = stateOf(state, now);
        note(before, waited);
        const sign = { accepted, status: accepted ? 200 : 500, retryAfterMs: null, at: now - startedAgoMs };
        state = afterAttempts(state, [sign], now, policy).state;
        note(waited, stateOf(state, now));
      }
    }),
    { seed: 16, numRuns: 300 },
  );
  expect([...seen].toSorted()).toEqual(transitions(CIRCUIT_TRANSITIONS));
});

/** Two attempts, a minute apart. */
class Twice extends RetrySchedule {
  override delayMs(failures: number): number | null {
    return failures < 2 ? MINUTE : null;
  }
}

class ThrowingFormat extends PayloadFormat {
  override readonly name = 'throwing';
  override readonly contentType = 'application/json';
  override render(): never {
    throw new Error('This format cannot render anything.');
  }
}

/** Makes the database log each change of the column `state` of a table. */
async function watch({ dataSource }: TestApp, table: string): Promise<void> {
  const { type } = dataSource.options;
  const log = (from: string) => `insert into state_log values ('${table}', ${from}, new.state)`;
  for (const [when, from] of [
    ['insert', "'new'"],
    ['update', 'old.state'],
  ] as const) {
    const name = `watch_${table}_${when}`;
    if (type === 'postgres') {
      await dataSource.query(
        `create function ${name}() returns trigger language plpgsql as $$ begin ${log(from)}; return new; end $$`,
      );
      await dataSource.query(
        `create trigger ${name} after ${when} on ${table} for each row execute function ${name}()`,
      );
    } else {
      const body = type === 'better-sqlite3' ? `begin ${log(from)}; end` : `for each row ${log(from)}`;
      await dataSource.query(`create trigger ${name} after ${when} on ${table} ${body}`);
    }
  }
}

/**
 * Makes the database log the derived state of each event, whenever its outbox row or its lease changes. A lease is found by the time of the
 * event, because no two events of the test have one lease.
 */
async function watchEvents({ dataSource }: TestApp): Promise<void> {
  const { type } = dataSource.options;
  const isDamaged = (row: string) => `exists (select 1 from webhook_damaged x where x.seq = ${row}.seq)`;
  const stateOf = (row: string) =>
    `case when ${row}.claims > 0 or ${row}.routed_through is not null then 'in_flight' else 'pending' end`;
  const isLeased = (row: string) =>
    `exists (select 1 from webhook_leases l where l.first_at <= ${row}.event_at and l.last_at >= ${row}.event_at)`;
  const isBack =
    'exists (select 1 from webhook_outbox o where o.event_at >= old.first_at and o.event_at <= old.last_at)';
  const changes = [
    [
      ...[
        'outbox',
        'insert',
        `case when ${isDamaged('new')} then 'damaged' when ${isLeased('new')} then 'in_flight' else 'new' end`,
      ],
      stateOf('new'),
    ],
    ['outbox', 'update', stateOf('old'), stateOf('new')],
    [
      ...['outbox', 'delete', stateOf('old')],
      `case when ${isDamaged('old')} then 'damaged' when ${isLeased('old')} then 'in_flight' else 'delivered' end`,
    ],
    ['leases', 'delete', `'in_flight'`, `case when ${isBack} then 'in_flight' else 'delivered' end`],
  ] as [table: string, when: string, from: string, to: string][];
  for (const [table, when, from, to] of changes) {
    const log = `insert into state_log values ('event', ${from}, ${to})`;
    if (type === 'postgres') {
      await dataSource.query(
        `create function watch_${table}_${when}() returns trigger language plpgsql as $$ begin ${log}; return null; end $$`,
      );
    }
    const body = {
      postgres: `for each row execute function watch_${table}_${when}()`,
      'better-sqlite3': `begin ${log}; end`,
    }[type as string];
    await dataSource.query(
      `create trigger watch_${table}_${when} after ${when} on webhook_${table} ${body ?? `for each row ${log}`}`,
    );
  }
}

async function observed({ dataSource }: TestApp, table: string): Promise<string[]> {
  const rows = await dataSource.query<{ f: string; t: string }[]>(
    `select distinct f, t from state_log where tab = '${table}' and f <> t`,
  );
  return rows.map(({ f, t }) => `${f} --> ${t}`).toSorted();
}

describeDatabases('what the database sees', (database) => {
  const apps = appsOn(database);
  let app: TestApp;
  beforeEach(async () => {
    app = await apps.start({
      entities: [],
      webhooks: {
        publishedTypes: ['tried'],
        parts: { retrySchedule: Twice, payloadFormats: [ThrowingFormat] },
        handshake: { origin: 'events.example.com' },
      },
    });
    await app.dataSource.query('create table state_log (tab varchar(40), f varchar(20), t varchar(20))');
  });
  const publish = () => app.webhooks.publish('tried', {});
  const listen = (input: object = {}) => app.listeners.create({ events: ['tried'], url: app.receiver.url, ...input });

  it('of deliveries and events is what their tables say', async () => {
    await watch(app, 'webhook_deliveries');
    await watchEvents(app);
    const { id } = await listen();
    await publish();
    app.receiver.respond([{ status: 500 }, { status: 500 }, { status: 500 }]);
    await app.dispatcher.drain();
    apps.advance(MINUTE);
    await app.dispatcher.drain();
    const [exhausted] = (await app.deliveries.list({ state: 'exhausted' })).items;
    await app.deliveries.resend(String(exhausted?.id));
    await app.dispatcher.drain();
    apps.advance(MINUTE);
    await app.dispatcher.drain();
    await app.deliveries.resend(String(exhausted?.id));
    await app.listeners.disable(id);
    await publish();
    await app.dispatcher.drain();
    await app.listeners.enable(id, { held: 'discard' });
    const [discarded] = (await app.deliveries.list({ state: 'discarded' })).items;
    await app.deliveries.resend(String(discarded?.id));
    await app.dispatcher.drain();
    await listen({ format: 'throwing' });
    await listen({ format: 'cloudevents' });
    await listen({ url: `${app.receiver.url}/gone` });
    app.receiver.respond(({ url }) => ({ status: url.endsWith('/gone') ? 410 : 204 }));
    await publish();
    await app.dispatcher.drain();
    await app.listeners.disable(id);
    const lost = await publish();
    await app.dispatcher.drain();
    // The lease of a process that died. When the content of the event is erased, the delivery is not sent again.
    await app.dataSource.query(
      `update webhook_deliveries set state = 'leased', lease_until = 1 where event_seq = (select seq from webhook_events where id = '${lost.id}') and listener_id = '${id}'`,
    );
    await app.app.get(EventService).erase(lost.id);
    await app.listeners.enable(id);
    await publish();
    await app.dataSource.query(`update webhook_events set payload = '{' where seq in (select seq from webhook_outbox)`);
    await app.dispatcher.drain();
    await app.dataSource.query(
      'insert into webhook_outbox (seq, event_at, claims) select seq, event_at, 0 from webhook_damaged',
    );
    await app.dataSource.query('delete from webhook_damaged');
    await app.dataSource.query('update webhook_outbox set claims = 5');
    await app.dispatcher.drain();
    expect(await observed(app, 'webhook_deliveries')).toEqual(transitions(DELIVERY_TRANSITIONS));
    expect(await observed(app, 'event')).toEqual(transitions(EVENT_TRANSITIONS));
  });

  it('of tasks is what their table says', async () => {
    await watch(app, 'webhook_tasks');
    const tasks = app.app.get(TaskService);
    const { id: listenerId } = await listen();
    const create = () => tasks.create({ kind: 'replay', listenerId, since: new Date(0) });
    await tasks.cancel((await create()).id);
    await publish();
    await app.dispatcher.drain();
    const running = await tasks.create({ kind: 'discard', listenerId, ratePerSecond: 1 });
    await tasks.run((await create()).id);
    await app.dataSource.query(`update webhook_tasks set state = 'running' where id = '${running.id}'`);
    await tasks.cancel(running.id);
    const { id: failing } = await create();
    await app.listeners.remove(listenerId);
    await tasks.run(failing);
    expect(await observed(app, 'webhook_tasks')).toEqual(transitions(TASK_TRANSITIONS));
  });

  it('of listeners is what their table says', async () => {
    await watch(app, 'webhook_listeners');
    const { id } = await listen();
    await app.listeners.disable(id);
    await app.listeners.enable(id);
    const { id: asked } = await listen({ handshake: 'challenge', url: `${app.receiver.url}/asked` });
    await app.listeners.disable(asked);
    await app.listeners.enable(asked);
    await app.listeners.update(asked, { handshake: 'none' });
    await app.listeners.update(asked, { handshake: 'challenge', url: `${app.receiver.url}/moved` });
    expect(await observed(app, 'webhook_listeners')).toEqual(transitions(LISTENER_TRANSITIONS));
  });
});
