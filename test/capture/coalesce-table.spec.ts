import { Column, DeleteDateColumn, Entity, PrimaryColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netAction, type Presence } from '../../libs/webhooks/src/capture/changes/coalesce.js';
import { databases, type FreshDatabase, type TestDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import type { CaptureModeName } from './operations/index.js';

@Webhook({ coalesce: true, fields: ['id', 'status'] })
@Entity('kept')
class Kept {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20 })
  status: string;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

const OPERATIONS = ['insert', 'update', 'softDelete', 'restore', 'delete'] as const;
type Operation = (typeof OPERATIONS)[number];

/** The operations that change a row, by the row before, with the row after. */
const NEXT: Readonly<Record<Presence, Partial<Record<Operation, Presence>>>> = {
  none: { insert: 'live' },
  live: { update: 'live', softDelete: 'hidden', delete: 'none' },
  hidden: { update: 'hidden', restore: 'live', delete: 'none' },
};
const PRESENCES = Object.keys(NEXT) as Presence[];

interface Sequence {
  readonly id: number;
  readonly first: Presence;
  readonly operations: readonly Operation[];
}

/** Every list of one to four operations that each change one row. */
function allSequences(): Sequence[] {
  const found: Omit<Sequence, 'id'>[] = [];
  const extend = (first: Presence, now: Presence, operations: readonly Operation[]) => {
    if (operations.length) found.push({ first, operations });
    if (operations.length === 4) return;
    for (const [operation, next] of Object.entries(NEXT[now])) {
      extend(first, next, [...operations, operation as Operation]);
    }
  };
  for (const first of PRESENCES) extend(first, first, []);
  return found.map((sequence, n) => ({ id: n + 1, ...sequence }));
}

interface Row {
  readonly status: string;
  readonly isHidden: boolean;
}

/** Applies the operations to a row in memory. `last` is the row of the last state in which it existed. */
function play({ first, operations }: Sequence): { begin: Row | null; end: Row | null; last: Row } {
  const begin: Row | null = first === 'none' ? null : { status: 'first', isHidden: first === 'hidden' };
  let row = begin;
  let last = begin;
  operations.forEach((operation, n) => {
    const status = operation === 'insert' || operation === 'update' ? `s${n}` : (row?.status ?? '');
    const isHidden = operation === 'softDelete' || (operation === 'update' && row?.isHidden === true);
    row = operation === 'delete' ? null : { status, isHidden };
    last = row ?? last;
  });
  return { begin, end: row, last: last as Row };
}

/** The events by what a reader of the table sees before and after, written down without the states of the library. */
function expectedEvents(sequence: Sequence): unknown[] {
  const { id, operations } = sequence;
  const { begin, end, last } = play(sequence);
  const wasSeen = begin !== null && !begin.isHidden;
  const isSeen = end !== null && !end.isHidden;
  const event = (type: string, more: object = {}) => [{ type, data: { id, status: last.status }, ...more }];
  const difference = begin && begin.status !== last.status ? { previous: { status: begin.status } } : null;
  if (wasSeen && isSeen) return difference ? event('kept.updated', difference) : [];
  if (wasSeen) return event('kept.deleted');
  if (isSeen) return event(begin ? 'kept.restored' : 'kept.created');
  // Nobody sees a difference. A row that is hidden and stays hidden is reported unless a restore in between was undone.
  if (!begin || operations.includes('restore')) return [];
  if (!end) return event('kept.deleted');
  return difference ? event('kept.updated', difference) : [];
}

describe('the action of several changes of one row', () => {
  it.each<[Presence, Presence, boolean, ReturnType<typeof netAction>]>([
    ['none', 'none', false, null],
    ['none', 'live', false, 'created'],
    ['none', 'hidden', false, null],
    ['live', 'none', false, 'deleted'],
    ['live', 'live', false, 'updated'],
    ['live', 'hidden', false, 'deleted'],
    ['hidden', 'none', false, 'deleted'],
    ['hidden', 'live', false, 'restored'],
    ['hidden', 'hidden', false, 'updated'],
    ['none', 'none', true, null],
    ['none', 'live', true, 'created'],
    ['none', 'hidden', true, null],
    ['live', 'none', true, 'deleted'],
    ['live', 'live', true, 'updated'],
    ['live', 'hidden', true, 'deleted'],
    ['hidden', 'none', true, null],
    ['hidden', 'live', true, 'restored'],
    ['hidden', 'hidden', true, null],
  ])('of a row that was %s and is %s (restored in between: %s) is %s', (from, to, wasRestored, action) => {
    expect(netAction(from, to, wasRestored)).toBe(action);
  });
});

for (const database of databases) {
  for (const mode of ['orm', 'trigger'] as const) {
    describe(`every sequence of up to four operations on one row, by ${mode} (${database.name})`, () =>
      describeSequences(database, mode));
  }
}

function describeSequences(database: TestDatabase, mode: CaptureModeName): void {
  const sequences = allSequences();
  let fresh: FreshDatabase;
  let app: TestApp;

  beforeAll(async () => {
    fresh = await database.create();
    app = await startApp({ database: fresh.options, entities: [Kept], webhooks: { capture: mode } });
    await prepareRows();
  });
  afterAll(async () => {
    await app.close();
    await fresh.drop();
  });

  it('makes the event that the first and the last state of the row require', async () => {
    for (const sequence of sequences) {
      await app.dataSource.transaction(async (manager) => {
        const row = manager.getRepository(Kept);
        for (const [n, operation] of sequence.operations.entries()) {
          const { id } = sequence;
          if (operation === 'insert') await row.insert({ id, status: `s${n}` });
          else if (operation === 'update') await row.update(id, { status: `s${n}` });
          else await row[operation](id);
        }
      });
    }
    if (mode === 'trigger') await app.dispatcher.drain();
    const stored = await storedEvents();
    for (const sequence of sequences) {
      const events = stored.filter(({ data }) => data.id === sequence.id);
      expect([sequence.first, ...sequence.operations, events]).toEqual([
        sequence.first,
        ...sequence.operations,
        expectedEvents(sequence),
      ]);
    }
    expect(sequences.length).toBeGreaterThan(150);
  }, 120_000);

  /** The rows that exist before their sequence. */
  async function prepareRows(): Promise<void> {
    const there = sequences.filter(({ first }) => first !== 'none').map(({ id }) => ({ id, status: 'first' }));
    const kept = app.dataSource.getRepository(Kept);
    await kept.insert(there);
    await kept.softDelete(sequences.filter(({ first }) => first === 'hidden').map(({ id }) => id));
    if (mode === 'trigger') await app.dispatcher.drain();
    await app.dataSource.query('DELETE FROM webhook_events');
  }

  async function storedEvents() {
    const rows = await app.dataSource.query<{ payload: string }[]>('SELECT payload FROM webhook_events ORDER BY seq');
    return rows.map(({ payload }) => {
      const { type, data, previous } = JSON.parse(payload) as { type: string; data: { id: number }; previous?: object };
      return { type, data, ...(previous ? { previous } : {}) };
    });
  }
}
