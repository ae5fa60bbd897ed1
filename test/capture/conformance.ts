import type { ObjectLiteral } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WebhooksModuleOptions } from 'nestjs-entity-webhooks';

import type { FreshDatabase, TestDatabase } from '../support/databases.js';
import { PayloadSchemas } from '../support/payload-schemas.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';
import { conformanceEntities, finishTables } from './conformance-entities.js';
import { familyOf } from './every-kind.js';
import { storedEvents } from './shop.js';
import {
  OPERATIONS,
  type CaptureModeName,
  type OperationContext,
  type ExpectedEvents,
  type ExpectedEvent,
} from './operations/index.js';

/** A capture mode that the suite runs. */
export interface CaptureMode {
  name: CaptureModeName;
  webhooks?: WebhooksModuleOptions;
  /** Called after the tables were created and before the first operation. */
  prepare?(app: TestApp): Promise<void>;
  /** Waits until every written change has its event in the outbox. */
  settle?(app: TestApp): Promise<void>;
}

/**
 * Runs every operation against one mode on one database, in one application, and compares the complete event table and the rows.
 *
 * A mode may make fewer events than the others. Then the operation gives the events of that mode, and the reason.
 */
export function describeConformance(mode: CaptureMode, database: TestDatabase): void {
  describe(`capture by ${mode.name} (${database.name})`, () => {
    const family = familyOf(database);
    const entities = conformanceEntities(family);
    const isHere = ({ on }: { on?: readonly string[] }) => !on || on.includes(database.name);
    let fresh: FreshDatabase;
    let app: TestApp;
    let context: OperationContext;
    let tables: string[];
    let schemas: PayloadSchemas;

    beforeAll(async () => {
      fresh = await database.create();
      app = await startApp({
        database: fresh.options,
        entities: [...entities.decorated, entities.Typed] as never,
        others: entities.others,
        ...(mode.webhooks ? { webhooks: mode.webhooks } : {}),
      });
      const { dataSource } = app;
      await finishTables(dataSource, family);
      await mode.prepare?.(app);
      schemas = await PayloadSchemas.of(app);
      const { manager } = dataSource;
      context = { app, dataSource, manager, database: database.name, family, mode: mode.name, typed: entities.Typed };
      // Tables with foreign keys come first, so that rows can be deleted in this order.
      tables = dataSource.entityMetadatas
        .filter(({ tableName }) => tableName.startsWith('conf_'))
        .toSorted((a, b) => b.foreignKeys.length - a.foreignKeys.length)
        .map(({ tablePath }) => dataSource.driver.escape(tablePath));
    });

    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });

    const forget = async () => {
      await mode.settle?.(app);
      await app.dataSource.query('DELETE FROM webhook_events');
    };

    for (const operation of OPERATIONS.filter(isHere)) {
      const difference = operation.differs?.[mode.name];
      const { expects } = difference && isHere(difference) ? difference : operation;
      const isNothing = Array.isArray(expects) && expects.length === 0;
      it(`makes ${isNothing ? 'no event' : 'exactly the expected events'}: ${operation.name}`, async () => {
        for (const table of new Set(tables)) await app.dataSource.query(`DELETE FROM ${table}`);
        await operation.given?.(context);
        await forget();
        await operation.run(context);
        await mode.settle?.(app);

        const captured = await storedEvents(app);
        expectEvents(captured, typeof expects === 'function' ? expects(context) : expects);
        expect(captured.flatMap((event) => schemas.mistakesOf(event))).toEqual([]);
        for (const [entity, rows] of operation.rows ?? []) expect(await rowsOf(app, entity)).toMatchObject(rows);
      });
    }
  });
}

function expectEvents(captured: readonly ExpectedEvent[], expected: ExpectedEvents): void {
  const groups = expected.map((some) =>
    Array.isArray(some) ? (some as readonly ExpectedEvent[]) : [some as ExpectedEvent],
  );
  expect(captured.map(({ type }) => type).toSorted()).toEqual(
    groups.flatMap((group) => group.map(({ type }) => type)).toSorted(),
  );
  let start = 0;
  for (const group of groups) {
    const left = captured.slice(start, start + group.length).toSorted(byText);
    start += group.length;
    for (const event of group.toSorted(byText)) {
      const index = left.findIndex((one) => one.type === event.type && isEqual(one, event));
      // Compare with the most similar event, so that the message shows the difference.
      if (index === -1) expect(left.find((one) => one.type === event.type) ?? left[0]).toEqual(event);
      left.splice(index, 1);
    }
  }
}

/** Sorts events by their text, so that the comparison of a thousand equal events stays fast. */
function byText(a: ExpectedEvent, b: ExpectedEvent): number {
  const [x, y] = [a, b].map(({ type, data }) => `${type} ${JSON.stringify(data)}`) as [string, string];
  return x < y ? -1 : x > y ? 1 : 0;
}

function isEqual(captured: ExpectedEvent, expected: ExpectedEvent): boolean {
  try {
    expect(captured).toEqual(expected);
    return true;
  } catch {
    return false;
  }
}

async function rowsOf({ dataSource }: TestApp, entity: new () => ObjectLiteral): Promise<ObjectLiteral[]> {
  const { primaryColumns } = dataSource.getMetadata(entity);
  return dataSource.getRepository(entity).find({
    withDeleted: true,
    order: Object.fromEntries(primaryColumns.map(({ propertyName }) => [propertyName, 'ASC'])),
  });
}
