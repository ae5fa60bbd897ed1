import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { isWriteStatement } from '../transactions/write-statement.js';

/**
 * Checks the text of a statement: may it have written to a table with triggers? If so, the dispatcher polls immediately. If the table name
 * occurs elsewhere in the statement, there is one needless poll. The regular poll finds writes by a procedure or a foreign key.
 */
export class WrittenTables {
  private names: RegExp | null = null;
  private mergedNames: RegExp | null = null;
  private madeOf: EntityRegistry['basis'] = null;

  constructor(private readonly registry: EntityRegistry) {}

  /** Whether a statement writes at all, perhaps by a foreign key or a procedure to one of these tables. */
  isWrite(statement: string): boolean {
    return this.tableNames() !== null && isWriteStatement(statement);
  }

  /** Whether a statement writes and names one of these tables. */
  isWrittenBy(statement: string): boolean {
    return isWriteStatement(statement) && (this.tableNames()?.test(statement) ?? false);
  }

  /** Whether a statement may write to a table whose changes are merged. @param statement a statement that writes */
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
