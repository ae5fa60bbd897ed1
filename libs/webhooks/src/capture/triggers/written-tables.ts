import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { isWriteStatement } from '../transactions/write-statement.js';

/**
 * Whether a statement of the application may have written to a table with triggers, so that the dispatcher looks at once. A name
 * elsewhere in it makes one look too many; what a procedure or a foreign key writes is found by the poll.
 */
export class WrittenTables {
  private names: RegExp | null = null;
  private mergedNames: RegExp | null = null;
  private madeOf: EntityRegistry['basis'] = null;

  constructor(private readonly registry: EntityRegistry) {}

  /** Whether it writes anything: by a foreign key or a procedure perhaps to one of these tables. */
  isWrite(statement: string): boolean {
    return this.tableNames() !== null && isWriteStatement(statement);
  }

  isWrittenBy(statement: string): boolean {
    return isWriteStatement(statement) && (this.tableNames()?.test(statement) ?? false);
  }

  /** Whether it may write to one whose changes are merged. @param statement that is written by one of these */
  isMerged(statement: string): boolean {
    return this.tableNames() !== null && (this.mergedNames?.test(statement) ?? false);
  }

  private tableNames(): RegExp | null {
    const { basis } = this.registry;
    if (basis !== this.madeOf) {
      this.madeOf = basis;
      const captured = this.registry.all().filter(({ capture }) => capture === 'trigger');
      this.names = namesOf(captured);
      this.mergedNames = namesOf(captured.filter(({ options }) => options.coalesce));
    }
    return this.names;
  }
}

function namesOf(definitions: readonly EntityDefinition[]): RegExp | null {
  const names = definitions.map(({ metadata }) => metadata.tableName.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return names.length ? new RegExp(`(?<!\\w)(?:${names.join('|')})(?!\\w)`, 'i') : null;
}
