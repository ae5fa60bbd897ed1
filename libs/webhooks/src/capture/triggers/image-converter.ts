import type { DataSource, EntityMetadata } from 'typeorm';
import type { LoggerService } from '@nestjs/common';
import { insertsOfEvents, type EventRow } from '../../store/outbox/event-rows.js';
import { storedCause } from '../../events/event-context.js';
import type { Json } from '../../json.js';
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
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { EntityRegistry } from '../../entities/entity-registry.js';
import { kindsInTable } from '../../entities/single-table.js';
import type { Before, RowChange } from '../changes/row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';
import { readImageRows, type ParsedImage, type ReadImage, type WrittenRow } from './image-reader.js';
import { sqliteValue } from './sqlite-triggers.js';
import { triggerTables, type TriggerTable } from './trigger-table.js';
import { messageOf } from '../../foreign-text.js';

/** What a converter works with. @internal */
export interface ImageConverterParts {
  readonly dataSource: DataSource;
  readonly database: Database;
  readonly registry: EntityRegistry;
  readonly limits: PayloadLimits;
  readonly logger: LoggerService;
  /** Called after the commit, with the events in their order. */
  readonly onConverted: (events: readonly EventRow[]) => void;
  readonly onDamaged: (image: { seq: string; tablePath: string; reason: string }) => void;
}

/** What one look made of the images. */
export type Conversion = 'nothing' | 'some' | 'elsewhere';

/** An image that makes no event, and says why. */
interface Damaged {
  readonly image: StoredImage;
  readonly reason: string;
}

type Converted = 'nothing' | 'elsewhere' | { events: EventRow[]; damaged: Damaged[] };

/** What a conversion works on. */
interface Taken extends Progress {
  images: readonly StoredImage[];
}

const nothingTaken = (): Taken => ({ step: 'taking', images: [] });

/** Images of one transaction; a thousand updated rows take five. */
const IMAGES_PER_BATCH = 200;
/** And what is to be merged with these, besides: more changes of one row in one transaction are told in several events. */
const MOST_MERGED_IMAGES = 10_000;

/**
 * Makes events of what triggers have written down: in the order in which it happened, in one process at a time, and in one transaction
 * that takes an image away as it makes its event.
 *
 * An image of which no event can be made is set aside with its reason, alone: a batch that the database refuses is tried again image
 * by image.
 */
export class ImageConverter {
  private tables: readonly TriggerTable[] = [];
  private madeOf: EntityRegistry['basis'] = null;

  constructor(private readonly parts: ImageConverterParts) {}

  /** Paths of the tables whose images are converted here; none where no entity is captured by triggers. */
  get tablePaths(): string[] {
    const { registry, dataSource } = this.parts;
    if (this.madeOf !== registry.basis) {
      this.tables = triggerTables(registry.all(), dataSource);
      this.madeOf = registry.basis;
    }
    return this.tables.map(({ path }) => path);
  }

  /** One batch. @throws what the database does */
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

  /** After a batch that failed: the good ones go on, and the one that fails is set aside. */
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
        await database.transaction(() => setAside(database, damaged), 'work');
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

  /** Statements that fail end the script where it is: what it catches is no error of the database. */
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
      const changes = () => coalesced(group.map((image) => changeOf(image, rowsOf(image)))).items;
      return guarded(stored, () => changes().flatMap((c) => ('values' in c ? [c] : eventsOf(c, limits)))) ?? [];
    });
    taken.step = 'writing';
    for (const statement of insertsOfEvents(database, events)) yield statement;
    yield* setAside(database, damaged);
    const isDamaged = new Set(damaged.map(({ image }) => image));
    yield* deleteImages(
      database,
      images.filter((image) => !isDamaged.has(image)),
    );
    return { events, damaged };
  }

  /** @returns nothing for a row of a kind that makes no events. @throws for one of a kind that this process does not know */
  private parse(stored: StoredImage): ParsedImage[] {
    const table = this.tables.find(({ path }) => path === stored.tablePath);
    if (!table) return [];
    const read = (text: string | null) => (text === null ? null : (JSON.parse(text) as WrittenRow));
    const old = read(stored.oldRow);
    const now = read(stored.newRow);
    const definition = this.definitionOf(table, now ?? old ?? {});
    return definition ? [{ stored, definition, old, now }] : [];
  }

  /** In a single table a column says of which kind a row is. */
  private definitionOf({ metadata, definitions }: TriggerTable, row: WrittenRow): EntityDefinition | undefined {
    const { discriminatorColumn } = metadata;
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- undefined outside single tables, whatever the type says
    if (!discriminatorColumn) return definitions[0];
    const written = row[discriminatorColumn.databaseName];
    const isSqlite = this.parts.database.dialect === 'sqlite';
    const kind = isSqlite ? sqliteValue(written as string | null).value : written;
    const isKind = (one: EntityMetadata) => String(one.discriminatorValue) === String(kind);
    // A newer process may know it: its rows are not to be lost by an older one.
    if (!kindsInTable(metadata).some(isKind)) {
      throw new Error(`this process knows no entity of the kind '${String(kind)}'`);
    }
    return definitions.find((definition) => isKind(definition.metadata));
  }

  private emitDamaged(damaged: readonly Damaged[]): void {
    const { logger, onDamaged } = this.parts;
    for (const { image, reason } of damaged) {
      const seq = String(image.seq);
      logger.error(
        `Image ${seq} of a row of ${image.tablePath} makes no event and was set aside; once its cause is mended, empty its \`reason\`: ${reason}`,
      );
      onDamaged({ seq, tablePath: image.tablePath, reason });
    }
  }
}

/** @param marks what {@link removeStaleMarks} has found */
export function warnOfStaleMarks(marks: 'skip' | 'other' | null, logger: LoggerService): void {
  if (!marks) return;
  const effect = {
    skip: 'Since then triggers have captured no change of any writer. Check the rows that were written since.',
    other: 'Since then events of other writers may have been given the context of that transaction, or been merged.',
  }[marks];
  const code = 'STALE_MARKS';
  logger.warn(
    `${code}: a transaction has committed the marks that it had set for its triggers. They are removed now. ${effect}`,
  );
}

function* setAside(database: Database, damaged: readonly Damaged[]): Script<void> {
  for (const { image, reason } of damaged) yield* markImageDamaged(database, image, reason);
}

/** Changes of one row in one transaction stand together, in the place of the first. */
function mergedGroups(images: readonly StoredImage[]): (readonly StoredImage[])[] {
  const groups = new Map<unknown, StoredImage[]>();
  for (const image of images) {
    const group = image.mergeKey === null ? undefined : groups.get(image.mergeKey);
    if (group) group.push(image);
    else groups.set(image.mergeKey ?? image, [image]);
  }
  return [...groups.values()];
}

function changeOf(
  { stored, definition, old: written, now: writtenNow }: ParsedImage,
  { old, now }: ReadImage,
): RowChange {
  const action = actionOf(definition, written, writtenNow);
  const image = now ?? old;
  if (!image) throw new Error('it holds no row');
  return {
    definition,
    action,
    id: {},
    key: image.key,
    at: Number(stored.createdAt),
    before: action === 'updated' && old ? beforeOfOldRow(definition, old) : null,
    image,
    cause: storedCause(stored.context),
  };
}

/** A delete date that is set is a soft delete, and one that is emptied a restore, whoever does it. */
function actionOf({ metadata }: EntityDefinition, old: WrittenRow | null, now: WrittenRow | null): EntityAction {
  if (!old) return 'created';
  if (!now) return 'deleted';
  const { deleteDateColumn } = metadata;
  if (!deleteDateColumn) return 'updated';
  const isDeleted = (row: WrittenRow) => (row[deleteDateColumn.databaseName] ?? null) !== null;
  if (isDeleted(old) === isDeleted(now)) return 'updated';
  return isDeleted(now) ? 'deleted' : 'restored';
}

/** All of the old row: what did not change is found out as the event is made. */
function beforeOfOldRow(definition: EntityDefinition, old: RowImage): Before {
  const values = new Map<string, Json>();
  const touched = new Set<string>();
  for (const field of definition.fields) {
    values.set(field.path, definition.valueOf(field, old));
    if (!field.automatic) touched.add(field.path);
  }
  return { values, touched, owner: definition.ownerOf(old) };
}
