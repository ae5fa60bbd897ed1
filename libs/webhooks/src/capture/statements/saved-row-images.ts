import type { ObjectLiteral } from 'typeorm';
import type { ChangeLog } from './captured-write.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { EntityPlan } from '../plans/entity-plan.js';
import { isFullyLoaded, relationsOfUpdate } from '../images/loaded-images.js';
import { idOf, readRows, rowKey, type RowLock } from '../images/row-reader.js';
import type { RowChange } from '../changes/row-change.js';
import type { SavedRow, Saving } from '../typeorm/write-builder.js';
import { dataSourceOf } from '../../typeorm-compat.js';

type Images = Map<string, RowImage>;

/**
 * The before images of the rows that one `save()` writes. The first statement on an entity reads and locks all rows of that entity, in the
 * order of the primary key. So two saves of the same rows in different order wait for each other and do not deadlock.
 */
export class SavedRowImages {
  private readonly images: Record<Exclude<RowLock, 'none'>, Map<EntityPlan, Images>> = {
    update: new Map(),
    delete: new Map(),
  };
  private byId: Map<ObjectLiteral, SavedRow> | null = null;
  /** Changes of rows whose links this `save()` may still write. Their after images are read after the links are written. */
  readonly linking = new Set<RowChange>();
  private own = 0;
  private others: number | null = null;

  constructor(
    private readonly saving: Saving,
    private readonly options: { readonly log: ChangeLog },
  ) {}

  /** The subject of TypeORM to which this identifier object belongs. */
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

  /** The number of update, soft delete and restore statements that the `save()` sends. */
  get updates(): number {
    const { updateSubjects, softRemoveSubjects, recoverSubjects } = this.saving.rows;
    return updateSubjects.length + softRemoveSubjects.length + recoverSubjects.length;
  }

  /** The before image of the row that the next statement writes; `null` if the row does not exist. */
  async take(plan: EntityPlan, lock: 'update' | 'delete', key: string, id: ObjectLiteral): Promise<RowImage | null> {
    const locked = (await this.lock(plan, lock)).get(key);
    return locked ?? (await this.read(plan, lock, [id])).get(key) ?? null;
  }

  async takeAll(
    plan: EntityPlan,
    lock: 'update' | 'delete',
    wanted: ReadonlyMap<string, ObjectLiteral>,
  ): Promise<Images> {
    const locked = await this.lock(plan, lock);
    const found: Images = new Map();
    const unknown: ObjectLiteral[] = [];
    for (const [key, id] of wanted) {
      const image = locked.get(key);
      if (image) found.set(key, image);
      else unknown.push(id);
    }
    // The image of a row may be missing for three reasons: this `save()` has already written the row, the row was not yet known when the
    // other rows were locked, or the row does not exist.
    if (unknown.length) for (const [key, image] of await this.read(plan, lock, unknown)) found.set(key, image);
    return found;
  }

  /**
   * Reads and locks all rows of an entity that the `save()` updates, or all rows that the `save()` removes. Later calls return the same
   * images.
   */
  async lock(plan: EntityPlan, lock: 'update' | 'delete'): Promise<Images> {
    this.forgetImagesAfterOtherStatements();
    const known = this.images[lock].get(plan);
    if (known) return known;
    const { definition } = plan;
    const { updateSubjects, removeSubjects } = this.saving.rows;
    const rows = lock === 'update' ? updateSubjects : removeSubjects;
    const ids = rows.flatMap((row) =>
      row.metadata === definition.metadata && row.identifier && !this.isLoaded(definition, lock, row)
        ? [idOf(definition, row.identifier)]
        : [],
    );
    const images = await this.read(plan, lock, ids);
    this.images[lock].set(plan, images);
    return images;
  }

  /**
   * Clears the images if other statements ran on the query runner. Each row is then read again by its own statement. Images with links are
   * kept. These images must show the links as they were before this `save()` wrote its first link.
   */
  private forgetImagesAfterOtherStatements(): void {
    const others = this.options.log.writesOf(this.saving.queryRunner).statements.count - this.own;
    const isSame = this.others === null || this.others === others;
    this.others = others;
    if (isSame) return;
    for (const byPlan of Object.values(this.images)) {
      for (const [{ definition }, images] of byPlan) if (!definition.linkFields.length) images.clear();
    }
  }

  /**
   * Whether the loaded row has all needed values. Then the row is not read again. The loaded row is used only with `exactPrevious: false`.
   */
  private isLoaded(definition: EntityDefinition, lock: 'update' | 'delete', row: SavedRow): boolean {
    if (definition.options.exactPrevious !== false) return false;
    const isChanged = (relation: unknown) => row.changeMaps.some((change) => change.relation === relation);
    const relations = lock === 'delete' ? definition.relationsNeeded : relationsOfUpdate(definition, isChanged);
    return isFullyLoaded(definition, row, relations, dataSourceOf(this.saving.queryRunner));
  }

  private async read(plan: EntityPlan, lock: 'update' | 'delete', ids: readonly ObjectLiteral[]): Promise<Images> {
    const { queryRunner } = this.saving;
    const isOpen = queryRunner.isTransactionActive || this.options.log.isOpen(queryRunner);
    const images = ids.length ? await readRows(queryRunner, plan, ids, isOpen ? lock : 'none') : new Map();
    // These images are also the after images of earlier changes of the rows.
    const keys = new Set(ids.map((id) => rowKey(plan.definition, id)));
    await this.options.log.settleRows(queryRunner, plan, keys, images);
    return images;
  }

  /** Reads the after images of earlier changes of these rows. Must be called before these rows are written without a read. */
  async settle(plan: EntityPlan, keys: readonly string[]): Promise<void> {
    if (!keys.length) return;
    await this.options.log.settleRows(this.saving.queryRunner, plan, new Set(keys));
  }

  /** Must be called when rows were written. Drops the images of these rows, because the images are out of date. */
  recorded(changes: readonly RowChange[]): void {
    for (const change of changes) {
      for (const images of Object.values(this.images)) images.get(change.plan)?.delete(change.key);
      if (change.plan.definition.linkFields.length) this.linking.add(change);
    }
  }

  /** Must be called for each statement of this `save()`, so that the statements of other calls can be counted. */
  countOwn(): void {
    this.own++;
  }
}
