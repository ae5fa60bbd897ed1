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

/** What the application says to `WebhooksModule`, as far as triggers follow from it. */
export interface TriggerOptions extends WebhookTablesOptions {
  /** As in `WebhooksModule.forRoot({ capture })`. @defaultValue 'orm' */
  capture?: CaptureMode;
  /**
   * Entities that are named in `WebhooksModule.forFeature([...])` with options beside them, as they stand there. Those with `@Webhook()`
   * are found by themselves.
   */
  entities?: readonly WebhookFeature[];
}

/**
 * Installs the triggers that the entities with `capture: 'trigger'` need, replaces those that are out of date, and drops those that
 * none needs any more, on tables of entities of this data source: those of another application stay. Does nothing where all is well, so it may run at each deployment. For a migration, or a script; the same as
 * `npx nestjs-entity-webhooks triggers --install`.
 *
 * The entities are those of the runner's data source as they are now: in a migration, call it in the last one.
 *
 * @returns the statements that were run
 * @throws ConfigurationError what is wrong with an entity's options, or `TABLES_MISSING`
 * @example
 * export class OrderTriggers1790000000000 implements MigrationInterface {
 *   up = async (runner: QueryRunner) => void (await installTriggers(runner));
 *   down = async (runner: QueryRunner) => void (await dropTriggers(runner));
 * }
 */
export async function installTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<string[]> {
  return syncTriggers(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** Drops every trigger of ours, and on PostgreSQL their function. @returns the statements that were run */
export function dropTriggers(runner: QueryRunner, options: WebhookTablesOptions = {}): Promise<string[]> {
  return syncTriggers(runner, options, [], 'drop all');
}

/** What {@link installTriggers} would run. @internal */
export async function printTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<string[]> {
  return triggerStatements(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** What is installed, against what should be. @internal */
export async function reportTriggers(runner: QueryRunner, options: TriggerOptions = {}): Promise<TriggerReport> {
  return compareTriggers(runner, options, await tablesOf(dataSourceOf(runner), options));
}

/** How many entities make webhooks, as far as this data source knows, and how many of them by triggers. @internal */
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
