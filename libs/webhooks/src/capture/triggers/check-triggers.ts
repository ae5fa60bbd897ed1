import type { LoggerService } from '@nestjs/common';
import type { DataSource, QueryRunner } from 'typeorm';
import { ConfigurationError } from '../../errors.js';
import type { ResolvedWebhooksOptions } from '../../options/resolve-options.js';
import { dialectOf } from '../../dialect.js';
import type { Database } from '../../store/database/database.js';
import { removeStaleMarks } from '../../store/outbox/images.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { warnOfStaleMarks } from './image-converter.js';
import { compareTriggers, syncTriggers } from './install-triggers.js';
import type { TriggerObject } from './trigger-sql.js';
import { triggerTables, type TriggerTable } from './trigger-table.js';
import { dataSourceOf } from '../../typeorm-compat.js';

const COMMAND = 'npx nestjs-entity-webhooks triggers --install -d <your data-source file>';

/**
 * Checks at bootstrap that the triggers of the entities are installed. With `synchronize: true`, the option that creates the tables, this
 * function also creates the triggers.
 *
 * @returns the tables with triggers of this library whose entities this process does not capture by triggers
 * @throws ConfigurationError `TRIGGERS_MISSING` or `TRIGGERS_OUTDATED`, with the command to run
 */
export async function checkTriggers({
  dataSource,
  database,
  registry,
  options,
  logger,
}: {
  dataSource: DataSource;
  database: Database;
  registry: EntityRegistry;
  options: ResolvedWebhooksOptions;
  logger: LoggerService;
}): Promise<{ foreignTables: readonly string[] }> {
  const tables = triggerTables(registry.all(), dataSource);
  if (tables.length) warnOfStaleMarks(await database.transaction(() => removeStaleMarks(database)), logger);
  const runner = dataSource.createQueryRunner('master');
  try {
    if (dataSource.options.synchronize && tables.length) await syncTriggers(runner, options, tables);
    const { missing, outdated, left } = await compareTriggers(runner, options, tables);
    if (missing.length) throw triggersError('TRIGGERS_MISSING', 'are missing', missing);
    if (outdated.length) {
      throw triggersError('TRIGGERS_OUTDATED', 'are outdated or disabled', outdated);
    }
    await warnOfCascades(runner, tables, logger);
    return { foreignTables: [...new Set(left.flatMap(({ table }) => table ?? []))] };
  } finally {
    await runner.release();
  }
}

/** Logs a warning about triggers whose images no process converts. */
export function warnOfForeignTables(tables: readonly string[], logger: LoggerService): void {
  if (!tables.length) return;
  logger.warn(
    `These tables have webhook triggers, but no entity with capture: 'trigger': ${tables.join(', ')}. The images of these triggers accumulate and make no events. Run: ${COMMAND}`,
  );
}

function triggersError(code: string, what: string, objects: readonly TriggerObject[]): ConfigurationError {
  const tables = [...new Set(objects.map(({ table, name }) => table ?? name))];
  return new ConfigurationError(
    code,
    `The triggers of ${tables.join(', ')} ${what}, so changes would not be captured. Run: ${COMMAND}. For a first try, synchronize: true creates them.`,
    { details: { tables } },
  );
}

/** Logs a warning for each foreign key that deletes or updates rows on InnoDB. InnoDB fires no triggers for such rows. */
async function warnOfCascades(
  runner: QueryRunner,
  tables: readonly TriggerTable[],
  logger: LoggerService,
): Promise<void> {
  if (!tables.length || dialectOf(dataSourceOf(runner).options.type) !== 'mysql') return;
  const keys: { name: string; relation: string; deleted: string; updated: string }[] = [];
  for (const { path } of tables) {
    const [table, schema] = path.split('.').toReversed();
    const rules = `IN ('CASCADE', 'SET NULL', 'SET DEFAULT')`;
    const found: typeof keys = await runner.query(
      `SELECT constraint_name AS name, table_name AS relation, delete_rule AS deleted, update_rule AS updated FROM information_schema.referential_constraints WHERE constraint_schema = ${schema === undefined ? 'DATABASE()' : '?'} AND table_name = ? AND (delete_rule ${rules} OR update_rule ${rules})`,
      schema === undefined ? [table] : [schema, table],
    );
    keys.push(...found);
  }
  for (const { name, relation, deleted, updated } of keys) {
    logger.warn(
      `The foreign key ${name} of ${relation} has ON DELETE ${deleted} ON UPDATE ${updated}. InnoDB fires no triggers for rows that a foreign key changes, so these changes of ${relation} make no events. Delete the rows yourself before their parent, or let TypeORM delete them (cascade).`,
    );
  }
}
