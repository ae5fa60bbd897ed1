import type { DataSource, EntityManager, ObjectLiteral } from 'typeorm';
import type { JsonObject } from 'nestjs-entity-webhooks';

import type { TestDatabase } from '../../support/databases.js';
import type { TestApp } from '../../support/webhooks-app.js';
import type { Typed } from '../conformance-entities.js';
import type { DatabaseFamily } from '../every-kind.js';

export type CaptureModeName = 'orm' | 'trigger';

/** What an operation runs in. */
export interface OperationContext {
  app: TestApp;
  dataSource: DataSource;
  manager: EntityManager;
  database: TestDatabase['name'];
  family: DatabaseFamily;
  mode: CaptureModeName;
  /** The entity with a column of every sort. */
  typed: new () => Typed;
}

export interface ToldEvent {
  type: string;
  data: JsonObject;
  previous?: JsonObject;
}

/** Every event in the order of the outbox; those of one inner list come from one statement, in any order. */
export type Told = readonly (ToldEvent | readonly ToldEvent[])[];

/** The events that another mode makes of an operation, and why. A row of the table in `docs/guarantees.md`. */
export interface Difference {
  /** On these databases only. @defaultValue every one */
  on?: readonly TestDatabase['name'][];
  /** What happens, for that table. */
  why: string;
  expects: Told | ((context: OperationContext) => Told);
}

export interface Operation {
  name: string;
  /** Databases that have it. @defaultValue every one */
  on?: readonly TestDatabase['name'][];
  /** What is there before; its events are thrown away. */
  given?(context: OperationContext): Promise<unknown>;
  run(context: OperationContext): Promise<unknown>;
  /** The complete event table afterwards: nothing more, and nothing less. */
  expects: Told | ((context: OperationContext) => Told);
  /** All rows of an entity afterwards, by its key. */
  rows?: readonly (readonly [new () => ObjectLiteral, readonly ObjectLiteral[]])[];
  differs?: Partial<Record<CaptureModeName, Difference>>;
}
