import { AssertionError } from 'node:assert';
import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import type { Database } from '../../store/database/database.js';
import { DEFAULT_INSTANCE, registryToken, runtimeToken } from '../../instance.js';
import { committedChanges, type CommittedChange } from './committed-changes.js';
import { compareEvents } from './compare-events.js';
import { describeDifferences } from './describe-differences.js';
import { shadowedTables } from './shadow-table.js';
import { imagesLeft, lastEvent, storedEvents, withoutLinks, type StoredEvent } from './stored-events.js';
import { installShadow, removeShadow, type InstalledShadow } from './witness-triggers.js';

interface WitnessParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly registry: EntityRegistry;
}

/**
 * Checks that each committed change of your entities has exactly the right event. Triggers of the witness record all changes that the
 * database commits. {@link expectEveryEvent} compares these changes with the outbox.
 *
 * Use the witness only in test databases. It creates a table and triggers for each entity with webhooks, and copies each
 * changed row.
 *
 * @example
 * ```ts
 * const witness = await EventWitness.install(app);
 * await app.get(OrderService).pay(order.id); // your own writes
 * await drain(app); // needed for entities with capture: 'trigger', whose events are made after the commit
 * await witness.expectEveryEvent();
 * await witness.remove();
 * ```
 */
export class EventWitness {
  private shadows: InstalledShadow[] = [];
  private after = '0';

  private constructor(private readonly parts: WitnessParts) {}

  /**
   * Installs the triggers. Call `install()` after the tables were created. After a migration that changes a table, install a new
   * witness.
   *
   * @param instance name of the data source, unless it is the default data source
   */
  static async install(app: INestApplicationContext, instance: string = DEFAULT_INSTANCE): Promise<EventWitness> {
    const strict = { strict: false };
    const { database } = app.get<{ database: Database }>(runtimeToken(instance), strict);
    const registry = app.get<EntityRegistry>(registryToken(instance), strict);
    const name = instance === DEFAULT_INSTANCE ? undefined : instance;
    const dataSource = app.get<DataSource>(getDataSourceToken(name) as string, strict);
    const witness = new EventWitness({ dataSource, database, registry });
    await witness.installShadows();
    await witness.forget();
    return witness;
  }

  /**
   * Compares the outbox with all changes that were committed since {@link install} or {@link forget}. Call this method while no
   * write is in progress. Links of `@JoinTable` relations are not compared, because links are in other tables.
   *
   * @param options `mayMerge`: set this option if one of your calls may write a row twice, for example an upsert that names a
   * key twice. Then one event may cover both changes
   * @returns the number of changes that the database committed. Check in your test that this number is not 0
   * @throws AssertionError with each missing, extra or different event. For each event, the message has the row, the fields,
   * the expected values and the stored values
   */
  async expectEveryEvent(options: { mayMerge?: boolean } = {}): Promise<number> {
    const { dataSource, database } = this.parts;
    const { waiting, reasons } = await imagesLeft(database);
    if (waiting > 0) {
      throw new AssertionError({
        message: `${waiting === 1 ? '1 change that triggers have captured has no event' : `${waiting} changes that triggers have captured have no events`} yet. Call drain(app) before expectEveryEvent().`,
      });
    }
    const changes: CommittedChange[] = [];
    for (const shadow of this.shadows) changes.push(...(await committedChanges(database, dataSource, shadow)));
    const differences = compareEvents(changes, await this.storedEvents(), options.mayMerge);
    if (differences.length === 0) return changes.length;
    const damaged = reasons.map((reason) => `\nAn image is damaged, so its event is missing: ${reason}`).join('');
    throw new AssertionError({
      message: describeDifferences(differences) + damaged,
      actual: differences.length,
      expected: 0,
    });
  }

  /**
   * Ignores all changes and events up to now. Call this method after writes that make no events on purpose, such as
   * a seed in `withoutCapture()`.
   */
  async forget(): Promise<void> {
    const { dataSource, database } = this.parts;
    await dataSource.transaction(async ({ queryRunner }) => {
      for (const { path } of this.shadows) await queryRunner?.query(`DELETE FROM ${path}`);
    });
    this.after = await lastEvent(database);
  }

  /** Removes the triggers and tables of the witness. */
  async remove(): Promise<void> {
    const runner = this.parts.dataSource.createQueryRunner();
    try {
      for (const shadow of this.shadows.splice(0)) await removeShadow(runner, shadow);
    } finally {
      await runner.release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }

  /** The stored events of entities, without the events of `publish()`. */
  private async storedEvents(): Promise<StoredEvent[]> {
    const { database, registry } = this.parts;
    const byName = new Map(registry.all().map((definition) => [definition.name, definition]));
    const events = await storedEvents(database, this.after);
    return events.flatMap((event) => {
      const definition = event.orderKey === null ? undefined : byName.get(nameIn(event.type));
      const compared = definition && withoutLinks(event, definition);
      return compared ? [compared] : [];
    });
  }

  private async installShadows(): Promise<void> {
    const { dataSource, registry } = this.parts;
    const runner = dataSource.createQueryRunner();
    try {
      for (const table of shadowedTables(registry.all())) this.shadows.push(await installShadow(runner, table));
    } finally {
      await runner.release();
    }
  }
}

/** The name of the entity in an event type, for example `order` for `order.updated`. */
function nameIn(type: string): string {
  return type.slice(0, type.lastIndexOf('.'));
}
