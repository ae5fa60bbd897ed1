import type { ObjectLiteral } from 'typeorm';
import type { ChangeLog } from './captured-write.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { isFullyLoaded, relationsOfUpdate } from '../images/loaded-images.js';
import { idOf, readRows, rowKey, type RowLock } from '../images/row-reader.js';
import type { RowChange } from '../changes/row-change.js';
import type { SavedRow, Saving } from '../typeorm/write-builder.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Images = Map<string, RowImage>;

/**
 * The rows that one `save()` writes, as they are before its statements. The first statement on an entity reads and locks all rows of
 * that entity, by primary key; so two saves of the same rows in another order wait for each other, and do not end in a deadlock.
 */
export class SavedRowImages {
  private readonly images: Record<Exclude<RowLock, 'none'>, Map<EntityDefinition, Images>> = {
    update: new Map(),
    delete: new Map(),
  };
  private byId: Map<ObjectLiteral, SavedRow> | null = null;
  /** Changes of rows whose links this `save()` may write later: their images are not read before these. */
  readonly linking = new Set<RowChange>();
  private own = 0;
  private others: number | null = null;

  constructor(
    private readonly saving: Saving,
    private readonly options: { readonly log: ChangeLog },
  ) {}

  /** The row of TypeORM that a statement names by this identifier object. */
  rowOf(identifier: ObjectLiteral): SavedRow | undefined {
    const { rows } = this.saving;
    const find = () =>
      new Map(
        [...rows.updateSubjects, ...rows.removeSubjects].flatMap((row) =>
          row.identifier ? [[row.identifier, row] as const] : [],
        ),
      );
    this.byId ??= find();
    return this.byId.get(identifier);
  }

  /** How many statements the `save()` sends that update, delete softly or restore a row. */
  get updates(): number {
    const { updateSubjects, softRemoveSubjects, recoverSubjects } = this.saving.rows;
    return updateSubjects.length + softRemoveSubjects.length + recoverSubjects.length;
  }

  /** The image of a row that the next statement writes; `null` where the row is gone. */
  async take(
    definition: EntityDefinition,
    lock: 'update' | 'delete',
    key: string,
    id: ObjectLiteral,
  ): Promise<RowImage | null> {
    return (await this.takeAll(definition, lock, new Map([[key, id]]))).get(key) ?? null;
  }

  async takeAll(
    definition: EntityDefinition,
    lock: 'update' | 'delete',
    wanted: ReadonlyMap<string, ObjectLiteral>,
  ): Promise<Images> {
    const locked = await this.lock(definition, lock);
    const found: Images = new Map();
    const unknown: ObjectLiteral[] = [];
    for (const [key, id] of wanted) {
      const image = locked.get(key);
      if (image) found.set(key, image);
      else unknown.push(idOf(definition, id));
    }
    // Written by this save() already, or not known when the others were locked, or gone.
    if (unknown.length) for (const [key, image] of await this.read(definition, lock, unknown)) found.set(key, image);
    return found;
  }

  /** Reads and locks all rows of an entity that the `save()` updates, or all that it removes; once. */
  async lock(definition: EntityDefinition, lock: 'update' | 'delete'): Promise<Images> {
    this.forgetImagesAfterOtherStatements();
    const known = this.images[lock].get(definition);
    if (known) return known;
    const { updateSubjects, removeSubjects } = this.saving.rows;
    const rows = lock === 'update' ? updateSubjects : removeSubjects;
    const ids = rows.flatMap((row) =>
      row.metadata === definition.metadata && row.identifier && !this.isLoaded(definition, lock, row)
        ? [idOf(definition, row.identifier)]
        : [],
    );
    const images = await this.read(definition, lock, ids);
    this.images[lock].set(definition, images);
    return images;
  }

  /** The rows are read again, one by one. Links count as they were before this `save()` wrote any. */
  private forgetImagesAfterOtherStatements(): void {
    const others = this.options.log.writesOf(this.saving.queryRunner).statements.count - this.own;
    const isSame = this.others === null || this.others === others;
    this.others = others;
    if (isSame) return;
    for (const byDefinition of Object.values(this.images)) {
      for (const [{ linkFields }, images] of byDefinition) if (!linkFields.length) images.clear();
    }
  }

  /** Whether a row need not be read: only with `exactPrevious: false`. */
  private isLoaded(definition: EntityDefinition, lock: 'update' | 'delete', row: SavedRow): boolean {
    if (definition.options.exactPrevious !== false) return false;
    const isChanged = (relation: unknown) => row.changeMaps.some((change) => change.relation === relation);
    const relations = lock === 'delete' ? definition.relationsNeeded : relationsOfUpdate(definition, isChanged);
    return isFullyLoaded(definition, row, relations, dataSourceOf(this.saving.queryRunner));
  }

  private async read(
    definition: EntityDefinition,
    lock: 'update' | 'delete',
    ids: readonly ObjectLiteral[],
  ): Promise<Images> {
    const { queryRunner } = this.saving;
    const isOpen = queryRunner.isTransactionActive || this.options.log.isOpen(queryRunner);
    const images = ids.length ? await readRows(queryRunner, definition, ids, isOpen ? lock : 'none') : new Map();
    // The same read shows what earlier changes of these rows have left.
    const keys = new Set(ids.map((id) => rowKey(definition, id)));
    await this.options.log.settleRows(queryRunner, definition, keys, images);
    return images;
  }

  /** Reads what earlier changes of rows have left, before these are written without being read. */
  async settle(definition: EntityDefinition, keys: readonly string[]): Promise<void> {
    if (!keys.length) return;
    await this.options.log.settleRows(this.saving.queryRunner, definition, new Set(keys));
  }

  /** Rows were written: what was read of them is no longer true. */
  recorded(changes: readonly RowChange[]): void {
    for (const change of changes) {
      for (const images of Object.values(this.images)) images.get(change.definition)?.delete(change.key);
      if (change.definition.linkFields.length) this.linking.add(change);
    }
  }

  /** One of the statements that have begun on the query runner is of this `save()`. */
  countOwn(): void {
    this.own++;
  }
}
