import type { DataSource, EntityManager, ObjectLiteral } from 'typeorm';
import type { JsonObject } from 'nestjs-entity-webhooks';

import type { TestDatabase } from '../../support/databases.js';
import type { TestApp } from '../../support/webhooks-app.js';
import type { Typed } from '../conformance-entities.js';
import type { DatabaseFamily } from '../every-kind.js';

export type CaptureModeName = 'orm' | 'trigger';

/** The application and database of an operation. */
export interface OperationContext {
  app: TestApp;
  dataSource: DataSource;
  manager: EntityManager;
  database: TestDatabase['name'];
  family: DatabaseFamily;
  mode: CaptureModeName;
  /** The entity with a column of every type. */
  typed: new () => Typed;
}

export interface ExpectedEvent {
  type: string;
  data: JsonObject;
  previous?: JsonObject;
}

/** Every event in the order of the outbox. The events of an inner list come from one statement, in any order. */
export type ExpectedEvents = readonly (ExpectedEvent | readonly ExpectedEvent[])[];

/** The events that one mode makes instead, with the reason. It is a row of the table in `docs/guarantees.md`. */
export interface Difference {
  /** The databases with this difference. @defaultValue all databases */
  on?: readonly TestDatabase['name'][];
  /** The text for that table. */
  why: string;
  expects: ExpectedEvents | ((context: OperationContext) => ExpectedEvents);
}

export interface Operation {
  name: string;
  /** The databases that support the operation. @defaultValue all databases */
  on?: readonly TestDatabase['name'][];
  /** Writes the rows that exist before the operation; their events are deleted. */
  given?(context: OperationContext): Promise<unknown>;
  run(context: OperationContext): Promise<unknown>;
  /** The complete event table afterwards. */
  expects: ExpectedEvents | ((context: OperationContext) => ExpectedEvents);
  /** All rows of an entity afterwards, in the order of the key. */
  rows?: readonly (readonly [new () => ObjectLiteral, readonly ObjectLiteral[]])[];
  differs?: Partial<Record<CaptureModeName, Difference>>;
}
