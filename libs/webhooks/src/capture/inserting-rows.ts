import type { ObjectLiteral } from 'typeorm';
import type { EntityDefinition } from './entity-definition.js';
import { insertedValues, type InsertedValues } from './inserted-image.js';

const INSERT = /^\s*insert\b/i;

/** The rows that one write is inserting. SQLite is sent a statement for each of them, so none may look at them all. */
export class InsertingRows {
  private readonly values = new Map<ObjectLiteral, InsertedValues | null>();
  /** Those whose INSERT has not passed, by their table as it stands in the statement. */
  private readonly waiting = new Map<string, [ObjectLiteral, EntityDefinition][]>();

  add(entity: ObjectLiteral, definition: EntityDefinition, table: string): void {
    this.values.set(entity, null);
    const rows = this.waiting.get(table);
    if (rows) rows.push([entity, definition]);
    else this.waiting.set(table, [[entity, definition]]);
  }

  /** Takes note of what they hold, when a statement passes. */
  note(query: string): void {
    if (!this.waiting.size || !INSERT.test(query)) return;
    for (const [table, rows] of this.waiting) {
      if (!query.includes(table)) continue;
      for (const [entity, definition] of rows) this.values.set(entity, insertedValues(definition, entity));
      this.waiting.delete(table);
    }
  }

  /** What a row held when its INSERT was sent. */
  take(entity: ObjectLiteral): InsertedValues | null {
    const values = this.values.get(entity) ?? null;
    this.values.delete(entity);
    return values;
  }
}
