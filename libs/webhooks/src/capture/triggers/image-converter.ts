import type { DataSource, EntityMetadata } from 'typeorm';
import type { LoggerService } from '@nestjs/common';
import { storeEvents, type EventRow } from '../../store/outbox/event-rows.js';
import { storedCause } from '../../events/event-context.js';
import type { PayloadLimits } from '../../events/payload.js';
import type { Database } from '../../store/database/database.js';
import { isRetryable } from '../../store/database/database-errors.js';
import { isFaultOfImage, type Progress } from './image-fault.js';
import {
  deleteImages,
  hasImages,
  lockConversion,
  readImages,
  readRestOfMerged,
  removeStaleMarks,
  markImageDamaged,
  type StoredImage,
} from '../../store/outbox/images.js';
import type { Script } from '../../store/database/script.js';
import { eventsOf } from '../changes/change-events.js';
import { coalesced } from '../changes/coalesce.js';
import type { EntityDefinition } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { kindsInTable } from '../../entities/single-table.js';
import type { EntityPlans } from '../plans/entity-plans.js';
import { beforeImageOf, type RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import { readImageRows, type ParsedImage, type ReadImage, type WrittenRow } from './image-reader.js';
import { sqliteValue } from './sqlite-triggers.js';
import { triggerTables, type TriggerTable } from './trigger-table.js';
import { messageOf } from '../../foreign-text.js';

/** The dependencies of a converter. */
export interface ImageConverterParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly registry: EntityRegistry;
  readonly plans: EntityPlans;
  readonly limits: PayloadLimits;
  readonly logger: LoggerService;
  /** Called after the commit, with the events in their order. */
  readonly onConverted: (events: readonly EventRow[]) => void;
  readonly onDamaged: (image: { seq: string; tablePath: string; reason: string }) => void;
}

/** The result of one conversion. `elsewhere` means that another process is converting images. */
export type Conversion = 'nothing' | 'some' | 'elsewhere';

/** An image that cannot be turned into an event, with the reason. */
interface Damaged {
  readonly image: StoredImage;
  readonly reason: string;
}

type Converted = 'nothing' | 'elsewhere' | { events: EventRow[]; damaged: Damaged[] };

/** The images that a conversion has taken, and its progress. */
interface Taken extends Progress {
  images: readonly StoredImage[];
}

const nothingTaken = (): Taken => ({ step: 'taking', images: [] });

/** The maximum number of images that one transaction converts. For 1,000 updated rows, five transactions are needed. */
const IMAGES_PER_BATCH = 200;
/**
 * The maximum number of images that are read in addition, because they may merge with the images of the batch. If a transaction has more
 * images of one row, these images make several events.
 */
const MOST_MERGED_IMAGES = 10_000;

/**
 * Makes events of the images that triggers have captured. The events have the order of the changes, and one process converts at a time. One
 * transaction writes an event and deletes the image of this event.
 *
 * An image that cannot be turned into an event is marked as damaged, together with the reason. If a batch fails, its images are converted
 * one by one, so that only the damaged image is marked.
 */
export class ImageConverter {
  private readonly tables: () => readonly TriggerTable[];

  constructor(private readonly parts: ImageConverterParts) {
    const { dataSource, registry } = parts;
    this.tables = registry.derived((definitions) => triggerTables(definitions, dataSource));
  }

  /** The paths of the tables whose images this process converts. Empty if triggers capture no entity. */
  get tablePaths(): string[] {
    return this.tables().map(({ path }) => path);
  }

  /** Converts one batch. @throws errors of the database */
  async convert(): Promise<Conversion> {
    const { database } = this.parts;
    const { tablePaths } = this;
    if (!tablePaths.length) return 'nothing';
    if (!(await database.single(() => hasImages(database, tablePaths), 'work'))) return 'nothing';
    try {
      return await this.convertSome(IMAGES_PER_BATCH);
    } catch (error) {
      if (isRetryable(error)) throw error;
    }
    return this.convertOneByOne();
  }

  /** Converts the images of a failed batch one by one, and marks each image that fails as damaged. */
  private async convertOneByOne(): Promise<Conversion> {
    const { database } = this.parts;
    let result: Conversion = 'nothing';
    for (let n = 0; n < IMAGES_PER_BATCH; n++) {
      const taken = nothingTaken();
      try {
        const one = await this.convertSome(1, taken);
        if (one !== 'some') return result === 'some' ? result : one;
      } catch (error) {
        if (isRetryable(error) || !isFaultOfImage(error, taken)) throw error;
        const damaged = taken.images.map((image) => ({ image, reason: messageOf(error) }));
        await database.transaction(() => markDamaged(database, damaged), 'work');
        this.emitDamaged(damaged);
      }
      result = 'some';
    }
    return result;
  }

  private async convertSome(limit: number, taken = nothingTaken()): Promise<Conversion> {
    const { database, onConverted } = this.parts;
    const converted = await database.transaction(() => this.guardedConversion(limit, taken), 'work');
    if (typeof converted === 'string') return converted;
    this.emitDamaged(converted.damaged);
    if (converted.events.length) onConverted(converted.events);
    return 'some';
  }

  /**
   * Runs the conversion and keeps an error that the conversion throws. A failed statement ends the script, and the error of the statement
   * is not thrown into the script. So an error that is caught here does not come from the database.
   */
  private *guardedConversion(limit: number, taken: Taken): Script<Converted> {
    try {
      return yield* this.conversion(limit, taken);
    } catch (error) {
      taken.thrown = error;
      throw error;
    }
  }

  private *conversion(limit: number, taken: Taken): Script<Converted> {
    const { database, dataSource, limits, logger } = this.parts;
    taken.step = 'taking';
    if (!(yield* lockConversion(database))) return 'elsewhere';
    warnOfStaleMarks(yield* removeStaleMarks(database), logger);
    const { tablePaths } = this;
    const oldest = yield* readImages(database, { tablePaths, limit });
    if (!oldest.length) return 'nothing';
    const rest = yield* readRestOfMerged(database, oldest, { tablePaths, limit: MOST_MERGED_IMAGES });
    if (rest.length === MOST_MERGED_IMAGES && limit > 1) return yield* this.conversion(Math.ceil(limit / 10), taken);
    const images = [...oldest, ...rest];
    Object.assign(taken, { step: 'reading', images });
    const damaged: Damaged[] = [];
    const guarded = <T>(group: readonly StoredImage[], work: () => T): T | undefined => {
      try {
        return work();
      } catch (error) {
        for (const image of group) damaged.push({ image, reason: messageOf(error) });
        return undefined;
      }
    };
    const parsed = mergedGroups(images).flatMap((stored) => {
      const group = guarded(stored, () => stored.flatMap((image) => this.parse(image)));
      return group ? [{ stored, group }] : [];
    });
    const rowsOf = yield* readImageRows(
      database,
      dataSource,
      parsed.flatMap(({ group }) => group),
    );
    const events = parsed.flatMap(({ stored, group }) => {
      const merged = () => coalesced(group.map((image) => changeOf(image, rowsOf(image))));
      return guarded(stored, () => merged().flatMap(({ change }) => (change ? eventsOf(change, limits) : []))) ?? [];
    });
    taken.step = 'writing';
    yield* storeEvents(database, events);
    yield* markDamaged(database, damaged);
    const isDamaged = new Set(damaged.map(({ image }) => image));
    yield* deleteImages(
      database,
      images.filter((image) => !isDamaged.has(image)),
    );
    return { events, damaged };
  }

  /**
   * @returns an empty list for a row of an entity that is not captured. @throws Error for a row of an entity that this process does not
   * know
   */
  private parse(stored: StoredImage): ParsedImage[] {
    const table = this.tables().find(({ path }) => path === stored.tablePath);
    if (!table) return [];
    const read = (text: string | null) => (text === null ? null : (JSON.parse(text) as WrittenRow));
    const old = read(stored.oldRow);
    const now = read(stored.newRow);
    const definition = this.definitionOf(table, now ?? old ?? {});
    return definition ? [{ stored, plan: this.parts.plans.of(definition), old, now }] : [];
  }

  /** The definition of the entity of a row. In a single table the discriminator column names this entity. */
  private definitionOf({ metadata, definitions }: TriggerTable, row: WrittenRow): EntityDefinition | undefined {
    const { discriminatorColumn } = metadata;
    // TypeORM's type says that `discriminatorColumn` is always set. Outside single-table inheritance `discriminatorColumn` is undefined.
    if (!discriminatorColumn) return definitions[0];
    const written = row[discriminatorColumn.databaseName];
    const isSqlite = this.parts.database.dialect === 'sqlite';
    const kind = isSqlite ? sqliteValue(written as string | null).value : written;
    const isKind = (one: EntityMetadata) => String(one.discriminatorValue) === String(kind);
    // A newer process may know this entity. Throw an error, so that an older process does not lose the rows of the entity.
    if (!kindsInTable(metadata).some(isKind)) {
      throw new Error(`this process knows no entity with the discriminator value '${String(kind)}'`);
    }
    return definitions.find((definition) => isKind(definition.metadata));
  }

  private emitDamaged(damaged: readonly Damaged[]): void {
    const { logger, onDamaged } = this.parts;
    for (const { image, reason } of damaged) {
      const seq = String(image.seq);
      logger.error(
        `Image ${seq} of a row of ${image.tablePath} cannot be turned into an event and was marked as damaged. Remove the cause, then set \`reason\` of the image to NULL. Cause: ${reason}`,
      );
      onDamaged({ seq, tablePath: image.tablePath, reason });
    }
  }
}

/** @param marks the result of {@link removeStaleMarks} */
export function warnOfStaleMarks(marks: 'skip' | 'other' | null, logger: LoggerService): void {
  if (!marks) return;
  const effect = {
    skip: 'Since then, triggers have captured no change of any writer. Check the rows that were written since then.',
    other: 'Since then, events of other writers may have got the context of that transaction, or may have been merged.',
  }[marks];
  const code = 'STALE_MARKS';
  logger.warn(
    `${code}: a transaction has committed the marks that it set for its triggers. These marks have been removed. ${effect}`,
  );
}

function* markDamaged(database: Database, damaged: readonly Damaged[]): Script<void> {
  for (const { image, reason } of damaged) yield* markImageDamaged(database, image, reason);
}

/** Groups the images of one row in one transaction. The group takes the position of its first image. */
function mergedGroups(images: readonly StoredImage[]): (readonly StoredImage[])[] {
  const groups = new Map<unknown, StoredImage[]>();
  for (const image of images) {
    const group = image.mergeKey === null ? undefined : groups.get(image.mergeKey);
    if (group) group.push(image);
    else groups.set(image.mergeKey ?? image, [image]);
  }
  return [...groups.values()];
}

function changeOf({ stored, plan, old: written, now: writtenNow }: ParsedImage, { old, now }: ReadImage): RowChange {
  const action = actionOf(plan.definition, written, writtenNow);
  const image = now ?? old;
  if (!image) throw new Error('the image holds no row');
  return {
    plan,
    action,
    id: {},
    key: image.key,
    at: Number(stored.createdAt),
    before: action === 'updated' && old ? beforeImageOf(plan, old) : null,
    isRemoved: !now,
    image,
    cause: storedCause(stored.context),
  };
}

/**
 * The action of an image. A write that sets the delete date is a soft delete. A write that clears the delete date is a restore. These rules
 * also hold for the writes of other programs.
 */
function actionOf({ metadata }: EntityDefinition, old: WrittenRow | null, now: WrittenRow | null): EntityAction {
  if (!old) return 'created';
  if (!now) return 'deleted';
  const { deleteDateColumn } = metadata;
  if (!deleteDateColumn) return 'updated';
  const isDeleted = (row: WrittenRow) => (row[deleteDateColumn.databaseName] ?? null) !== null;
  if (isDeleted(old) === isDeleted(now)) return 'updated';
  return isDeleted(now) ? 'deleted' : 'restored';
}
