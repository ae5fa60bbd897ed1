import { COLUMN_TYPES } from './column-types.js';
import { DELETES } from './deletes.js';
import { ENTITY_SHAPES } from './entity-shapes.js';
import { INSERTS } from './inserts.js';
import { ISOLATION } from './isolation.js';
import { LINKS } from './links.js';
import type { Operation } from './operation.js';
import { RAW } from './raw.js';
import { RELATIONS } from './relations.js';
import { SAVES } from './saves.js';
import { TRANSACTIONS } from './transactions.js';
import { UPDATES } from './updates.js';

export type {
  CaptureModeName,
  Difference,
  Operation,
  OperationContext,
  ExpectedEvents,
  ExpectedEvent,
} from './operation.js';

/** Every way to write, with the expected events. */
export const OPERATIONS: readonly Operation[] = [
  ...SAVES,
  ...INSERTS,
  ...UPDATES,
  ...DELETES,
  ...RAW,
  ...COLUMN_TYPES,
  ...ENTITY_SHAPES,
  ...RELATIONS,
  ...LINKS,
  ...TRANSACTIONS,
  ...ISOLATION,
];
