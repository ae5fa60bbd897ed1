import type { DataSource, QueryRunner } from 'typeorm';
import { loadExposure } from '../entities/exposed-properties.js';
import { EntityRegistry } from '../entities/entity-registry.js';
import {
  compareTriggers,
  syncTriggers,
  triggerStatements,
  type TriggerReport,
} from '../capture/triggers/install-triggers.js';
import { triggerTables, type TriggerTable } from '../capture/triggers/trigger-table.js';
import { registeredEntity, type WebhookFeature } from '../entities/webhook-feature.js';
import type { CaptureMode } from '../entities/webhook.decorator.js';
import type { WebhookTablesOptions } from '../store/database/table-names.js';
import { dataSourceOf } from '../typeorm-compat.js';

/** The options of `WebhooksModule` that triggers depend on. */
export interface TriggerOptions extends WebhookTablesOptions {
  /** The same value as in `WebhooksModule.forRoot({ capture })`. @defaultValue 'orm' */
  capture?: CaptureMode;
  /**
   * Entities with options in `WebhooksModule.forFeature([...])`, in the same form as in that call. Entities with `@Webhook()` are found
   * without this list.
   */
  entities?: readonly WebhookFeature[];
}

/**
 * Installs the triggers for the entities with `capture: 'trigger'`. Replaces outdated triggers, and drops triggers that no entity needs any
 * more. Drops only triggers on tables of entities of this data source, so the triggers of other applications stay. If the triggers are up
 * to date, the function does nothing. So you can call this function at each deployment, in a migration or a script. `npx
 * nestjs-entity-webhooks triggers --install` does the same.
 *
 * The function uses the present entities of the runner's data source. If there are several migrations, call the function in the last
 * migration.
 *
 * @returns the statements that were run
 * @throws ConfigurationError for wrong options of an entity, or `TABLES_MISSING`
 * @example
 * export class OrderTriggers1790000000000 implements MigrationInterface {
 *   up = async (runner: QueryRunner) => void (await installTriggers(runner));
 *   down = async (runner: QueryRunner) => void (await dropTriggers(runner));
 * }
 */
export async function installTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<string[]> {
  return syncTriggers(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** Drops every trigger of this library. On PostgreSQL, also drops the function of the triggers. @returns the statements that were run */
export function dropTriggers(runner: QueryRunner, options: WebhookTablesOptions = {}): Promise<string[]> {
  return syncTriggers(runner, options, [], 'drop all');
}

/** The statements that {@link installTriggers} would run. @internal */
export async function printTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<string[]> {
  return triggerStatements(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** Compares the installed triggers with the triggers that should exist. @internal */
export async function reportTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<TriggerReport> {
  return compareTriggers(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** Counts the entities with webhooks in this data source, and how many of them use triggers. @internal */
export async function countEntities(
  dataSource: DataSource,
  options: TriggerOptions = {},
): Promise<{ all: number; byTrigger: number }> {
  const all = (await registryOf(dataSource, options)).all();
  return { all: all.length, byTrigger: all.filter(({ capture }) => capture === 'trigger').length };
}

async function tablesOf(dataSource: DataSource, options: TriggerOptions): Promise<TriggerTable[]> {
  return triggerTables((await registryOf(dataSource, options)).all(), dataSource);
}

async function registryOf(
  dataSource: DataSource,
  { capture = 'orm', entities = [] }: TriggerOptions,
): Promise<EntityRegistry> {
  await loadExposure();
  const registry = new EntityRegistry();
  registry.register(entities.map(registeredEntity));
  registry.registerDecorated(dataSource);
  registry.serve(dataSource, 'default', capture);
  return registry;
}
