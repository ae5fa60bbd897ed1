import sql from 'sql-template-tag';
import { beforeAll, describe, expect, it } from 'vitest';
import { storeEvents } from '../../../libs/webhooks/src/store/outbox/event-rows.js';
import type { Database } from '../../../libs/webhooks/src/store/database/database.js';
import { readAttempts } from '../../../libs/webhooks/src/store/queue/delivery-rows.js';
import { publishOnce } from '../../../libs/webhooks/src/store/outbox/published-events.js';
import type { TableName } from '../../../libs/webhooks/src/store/database/tables.js';
import { addEvents, addListener, anEvent, attemptOf, deliveriesOf, unfinishedOf, roomFor, rowsOf } from '../support.js';
import { START, type StoreSuite } from './store-suite.js';

const MIB = 1024 * 1024;

/** The position of the idempotency key in the values of `eventRow`. */
const DEDUPE_KEY = 8;

export function describeValues(suite: StoreSuite): void {
  const { fan, claim, record, states } = suite;
  let database: Database;
  beforeAll(() => {
    database = suite.database;
  });

  it('publishes once with one idempotency key', async () => {
    const key = Buffer.alloc(16, 1);
    const { events: e } = database.tables;
    const publish = () => {
      const row = anEvent();
      const values = row.values.map((value, n) => (n === DEDUPE_KEY ? key : value));
      return database.transaction(() => publishOnce(database, { ...row, values }, key));
    };
    expect(await publish()).toBeUndefined();
    const [first] = await rowsOf<{ id: string }>(database, sql`select ${e.select('e', 'id')} from ${e.sql} e`);
    expect(await publish()).toMatchObject({ id: first?.id });
    expect(await unfinishedOf(database)).toHaveLength(1);
    expect(await rowsOf(database, sql`select ${e.select('e', 'id')} from ${e.sql} e`)).toHaveLength(1);
  });

  describe('values', () => {
    it.each([
      ['an empty text', '', ''],
      ['digits', '007', '007'],
      ['the word null', 'null', 'null'],
      ['quotes and backslashes', String.raw`"\'"\n\u0041`, String.raw`"\'"\n\u0041`],
      ['every plane', 'é漢🪝\u2028', 'é漢🪝\u2028'],
      ['a NUL', 'a\0b', 'a\ufffdb'],
      ['half of a surrogate pair', 'a\ud800b', 'a\ufffdb'],
    ])('keep %s', async (_, given, kept) => {
      await addListener(database, START);
      await addEvents(database, 1);
      const { leased } = await fan({ room: roomFor(1), bodyOf: () => ({ body: given, format: 'own', version: null }) });
      await addEvents(database, 1);
      const { leased: unstored } = await fan({ room: roomFor(1) });
      const both = [...leased, ...unstored];
      await record(
        both.map((one) => attemptOf(one, START, { response: given, errorDetail: given })),
        START,
      );
      expect((await deliveriesOf(database)).map(({ body }) => body)).toEqual([kept, null]);
      for (const { id } of both) {
        const [attempt] = await database.transaction(() => readAttempts(database, id));
        expect(attempt).toMatchObject({ response: kept, errorDetail: kept, errorCode: null });
      }
    });

    it.each([
      ['are equal', () => 'acme'],
      ['are sometimes missing', (n: number) => (n % 3 ? `owner ${n}` : null)],
      ['contain separators', (n: number) => (n === 7 ? 'a\x1eb' : `a\x1f"{},\\é漢🪝'${n}`)],
    ])(
      'of many events in one insert are stored like those of single inserts, in order, if they %s',
      async (_, ownerOf) => {
        const text = String.raw`\x1e"\'{},é漢🪝` + '\x1e\n';
        const rows = Array.from({ length: 20 }, (_row, n) =>
          anEvent({
            data: { id: n, text },
            owner: ownerOf(n),
            createdAt: START + (n % 2),
            ...(n % 4 ? { row: `r${n}` } : {}),
          }),
        );
        const { events: e } = database.tables;
        const columns = ['id', 'type', 'superTypes', 'audience', 'owner', 'ownerKey', 'orderKey'] as const;
        const others = [
          'ordered',
          'dedupeKey',
          'payload',
          'thinPayload',
          'droppedFields',
          'context',
          'createdAt',
        ] as const;
        const read = () =>
          rowsOf(database, sql`select ${e.select('e', ...columns, ...others)} from ${e.sql} e order by e.${e.$.seq}`);
        const store = (some: typeof rows) => database.transaction(() => storeEvents(database, some));
        await store(rows);
        const together = await read();
        await database.transaction(function* () {
          yield sql`delete from ${e.sql}`;
        });
        for (const row of rows) await store([row]);
        expect(together).toEqual(await read());
        expect(together.map(({ id }) => id)).toEqual(rows.map(({ source }) => source.event.id));
        expect(together.map(({ owner }) => owner)).toEqual(rows.map((_row, n) => ownerOf(n)));
      },
    );

    it('of many megabytes are stored, whatever the maximum length of a statement is', async () => {
      const text = `"${'é'.repeat(2 * MIB - 100)}"`;
      await addListener(database, START);
      const rows = Array.from({ length: 5 }, () => anEvent({ data: { id: 1, text } }));
      await database.transaction(() => storeEvents(database, rows));
      const { leased } = await fan({
        room: roomFor(5),
        bodyOf: (_listener, { payload }) => ({ body: payload, format: 'own', version: null }),
      });
      expect(leased).toHaveLength(5);
      const bodies = (await deliveriesOf(database)).map(({ body }) => body);
      expect(bodies.every((body) => body === leased[0]?.event.payload)).toBe(true);
      expect(bodies[0]?.length).toBeGreaterThan(2 * MIB - 100);
    });

    // better-sqlite3 returns integers as JavaScript numbers.
    it.skipIf(suite.title.includes('sqlite'))('are sequences beyond 2^53, and stay distinct', async () => {
      const far = 2n ** 53n;
      const tables: TableName[] = ['events', 'deliveries', 'listenerState'];
      for (const table of tables) {
        const { metadata, sql: path } = database.tables[table];
        await suite.application.query(
          database.dialect === 'mysql'
            ? `alter table ${path.sql} auto_increment = ${far}`
            : `select setval(pg_get_serial_sequence('${metadata.tablePath}', 'seq'), ${far})`,
        );
      }
      await addListener(database, START);
      await addEvents(database, 4);
      const { leased } = await fan({ room: roomFor(2) });
      const rest = (await claim(START)).deliveries;
      const all = [...leased, ...rest];
      expect(new Set(all.map(({ id }) => id)).size).toBe(4);
      expect(new Set(rest.map(({ seq }) => seq)).size).toBe(2);
      expect(rest.every(({ seq }) => BigInt(seq as string) >= far)).toBe(true);
      expect(all.every(({ event }) => BigInt(event.seq) >= far)).toBe(true);
      const { moved } = await record(
        all.map((delivery) => attemptOf(delivery, START)),
        START,
      );
      expect(moved).toEqual(new Set(all));
      expect(await states()).toEqual(Array(4).fill('succeeded'));
      await addListener(database, START);
      await addEvents(database, 1);
      expect((await fan({ room: roomFor(9) })).leased).toHaveLength(2);
    });
  });
}
