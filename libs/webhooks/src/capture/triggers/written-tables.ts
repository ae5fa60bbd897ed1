import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { isWriteStatement } from '../transactions/write-statement.js';

/**
 * Checks the text of a statement: may the statement have written to a table with triggers? If so, the dispatcher polls immediately. If the
 * name of such a table occurs in another part of the statement, the dispatcher polls once without need. The regular poll finds writes by a
 * procedure or a foreign key.
 */
export class WrittenTables {
  private readonly names: () => { readonly all: RegExp | null; readonly merged: RegExp | null };

  constructor(registry: EntityRegistry) {
    this.names = registry.derived((definitions) => {
      const captured = definitions.filter(({ capture }) => capture === 'trigger');
      return { all: namesOf(captured), merged: namesOf(captured.filter(({ options }) => options.coalesce)) };
    });
  }

  /**
   * Whether a statement writes anything. Such a statement may write to these tables through a foreign key or a procedure, even if the
   * statement does not name these tables.
   */
  isWrite(statement: string): boolean {
    return this.names().all !== null && isWriteStatement(statement);
  }

  /** Whether a statement writes and names one of these tables. */
  isWrittenBy(statement: string): boolean {
    return isWriteStatement(statement) && (this.names().all?.test(statement) ?? false);
  }

  /** Whether a statement may write to a table whose changes are merged. @param statement a statement that writes */
  isMerged(statement: string): boolean {
    return this.names().merged?.test(statement) ?? false;
  }
}

function namesOf(definitions: readonly EntityDefinition[]): RegExp | null {
  const names = definitions.map(({ metadata }) => metadata.tableName.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return names.length ? new RegExp(`(?<!\\w)(?:${names.join('|')})(?!\\w)`, 'i') : null;
}
