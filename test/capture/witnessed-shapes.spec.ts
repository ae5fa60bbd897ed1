import { EventWitness } from 'nestjs-entity-webhooks/testing';
import { Webhook } from 'nestjs-entity-webhooks';
import {
  Column,
  DeleteDateColumn,
  Entity,
  EventSubscriber,
  JoinTable,
  LessThan,
  ManyToMany,
  ManyToOne,
  OneToMany,
  PrimaryGeneratedColumn,
  Tree,
  TreeChildren,
  TreeParent,
  VersionColumn,
  type EntityManager,
  type EntitySubscriberInterface,
  type InsertEvent,
  type Relation,
  type UpdateEvent,
} from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeDatabases, type FreshDatabase } from '../support/databases.js';
import { startApp, type TestApp } from '../support/webhooks-app.js';

abstract class Named {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'none' })
  name: string;
}

/** TypeORM moves a subtree with statements of its own, which change a column that is not in the payload. */
@Webhook()
@Entity('shape_path')
@Tree('materialized-path')
class PathNode extends Named {
  @TreeChildren({ cascade: true })
  children: Relation<PathNode>[];

  @TreeParent()
  parent: Relation<PathNode> | null;
}

/** TypeORM keeps the ancestors in a second table. */
@Webhook()
@Entity('shape_closure')
@Tree('closure-table')
class ClosureNode extends Named {
  @TreeChildren({ cascade: true })
  children: Relation<ClosureNode>[];

  @TreeParent()
  parent: Relation<ClosureNode> | null;
}

/** An insert or a move renumbers other rows. */
@Webhook()
@Entity('shape_nested')
@Tree('nested-set')
class NestedNode extends Named {
  @TreeChildren()
  children: Relation<NestedNode>[];

  @TreeParent()
  parent: Relation<NestedNode> | null;
}

@Webhook()
@Entity('shape_album')
class Album extends Named {
  @VersionColumn()
  version: number;

  @DeleteDateColumn()
  deletedAt: Date | null;

  @OneToMany(() => Loose, ({ album }) => album, { cascade: ['insert', 'update'] })
  loose: Relation<Loose>[];

  @OneToMany(() => Owned, ({ album }) => album, { cascade: ['insert', 'update'] })
  owned: Relation<Owned>[];

  @OneToMany(() => Kept, ({ album }) => album, { cascade: ['insert', 'update', 'soft-remove', 'recover'] })
  kept: Relation<Kept>[];

  @ManyToMany(() => Label, { cascade: ['insert', 'update'] })
  @JoinTable({ name: 'shape_album_labels' })
  labels: Relation<Label>[];
}

@Webhook()
@Entity('shape_loose')
class Loose extends Named {
  @ManyToOne(() => Album, ({ loose }) => loose, { nullable: true })
  album: Relation<Album> | null;
}

@Webhook()
@Entity('shape_owned')
class Owned extends Named {
  @ManyToOne(() => Album, ({ owned }) => owned, { nullable: true, orphanedRowAction: 'delete' })
  album: Relation<Album> | null;
}

@Webhook()
@Entity('shape_kept')
class Kept extends Named {
  @DeleteDateColumn()
  deletedAt: Date | null;

  @ManyToOne(() => Album, ({ kept }) => kept, { nullable: true, orphanedRowAction: 'soft-delete' })
  album: Relation<Album> | null;
}

@Webhook()
@Entity('shape_label')
class Label extends Named {
  @ManyToOne(() => Label, { nullable: true, cascade: true })
  above: Relation<Label> | null;
}

@Webhook()
@Entity('shape_note')
class Note extends Named {
  @Column({ type: 'int', default: 0 })
  count: number;
}

/** Writes other rows while a `save()` of labels is under way. */
@EventSubscriber()
class NoteWriter implements EntitySubscriberInterface<Label> {
  listenTo() {
    return Label;
  }

  async afterInsert({ manager, entity }: InsertEvent<Label>) {
    await manager.insert(Note, { name: `new ${entity.name}` });
  }

  async afterUpdate({ manager, entity }: UpdateEvent<Label>) {
    await manager.save(Note, { name: `changed ${String(entity?.name)}` });
    await manager.increment(Note, { id: LessThan(1_000) }, 'count', 1);
  }
}

const TREES = [PathNode, ClosureNode, NestedNode];
const ENTITIES = [...TREES, Album, Loose, Owned, Kept, Label, Note];

// The model of random programs has none of these shapes.
describeDatabases('each change of a row has its event', (database) => {
  describe.each(['orm', 'trigger'] as const)('(%s)', (capture) => {
    let fresh: FreshDatabase;
    let app: TestApp;
    let manager: EntityManager;
    let witness: EventWitness;

    beforeAll(async () => {
      fresh = await database.create();
      app = await startApp({
        database: { ...fresh.options, subscribers: [NoteWriter] },
        entities: ENTITIES.map((entity) => ({ entity, capture })),
      });
      ({ manager } = app.dataSource);
      witness = await EventWitness.install(app.app);
    });
    afterAll(async () => {
      await app.close();
      await fresh.drop();
    });

    /** Trigger mode makes events after the commit. */
    const madeEvents = () => app.dispatcher.drain();
    /** @returns the number of changes, all of which have their events */
    const changesOf = async (write: () => Promise<unknown>): Promise<number> => {
      await madeEvents();
      await witness.forget();
      await write();
      await madeEvents();
      return witness.expectEveryEvent({ mayMerge: true });
    };

    it.each(TREES)('of a tree: $name', async (node) => {
      const trees = app.dataSource.getTreeRepository(node as typeof ClosureNode);
      const root = await trees.save({ name: 'root' } as ClosureNode);
      const left = await trees.save({ name: 'left', parent: root } as ClosureNode);
      const right = await trees.save({ name: 'right', parent: root } as ClosureNode);
      const leaf = await trees.save({ name: 'leaf', parent: left } as ClosureNode);
      expect(await changesOf(() => trees.save({ name: 'late', parent: leaf } as ClosureNode))).toBeGreaterThan(0);
      expect(await changesOf(() => trees.save(Object.assign(left, { parent: right })))).toBeGreaterThan(0);
      expect(await changesOf(() => trees.save(Object.assign(leaf, { parent: right, name: 'moved' })))).toBeGreaterThan(
        0,
      );
      if (node !== NestedNode) {
        const branch = { name: 'branch', children: [{ name: 'a' }, { name: 'b', children: [{ name: 'c' }] }] };
        expect(await changesOf(() => trees.save(branch as ClosureNode))).toBeGreaterThanOrEqual(4);
      }
    });

    it('of children that leave their parent: without it, deleted or soft-deleted', async () => {
      const pair = () => [{ name: 'a' }, { name: 'b' }];
      let id = 0;
      const saved = () =>
        manager.save(Album, { name: 'first', loose: pair(), owned: pair(), kept: pair(), labels: pair() } as Album);
      expect(await changesOf(async () => ({ id } = await saved()))).toBeGreaterThan(8);
      const load = () =>
        manager.findOneOrFail(Album, {
          where: { id },
          relations: { loose: true, owned: true, kept: true, labels: true },
          withDeleted: true,
        });
      let album = await load();
      for (const children of [album.loose, album.owned, album.kept, album.labels]) children.splice(0, 1);
      Object.assign(album.loose[0] as Loose, { name: 'renamed' });
      // The album, three orphans and a renamed row.
      expect(await changesOf(() => manager.save(Object.assign(album, { name: 'second' })))).toBeGreaterThanOrEqual(5);
      album = await load();
      expect(await changesOf(() => manager.softRemove(album))).toBeGreaterThan(0);
      album = await load();
      expect(await changesOf(() => manager.recover(album))).toBeGreaterThan(0);
      album = await load();
      const everything = () =>
        manager.transaction(async (inner) => {
          await inner.save(Object.assign(album, { name: 'third', loose: [], owned: [] }));
          await inner.softRemove(album);
          await inner.recover(album);
          await inner.update(Album, id, { name: 'fourth' });
          const late = await inner.save(Loose, { name: 'late' });
          await inner.createQueryBuilder().relation(Album, 'loose').of(id).add(late);
        });
      expect(await changesOf(everything)).toBeGreaterThan(4);
    });

    it('of rows that a subscriber writes in the hooks of another row', async () => {
      const labels = [
        { name: 'low', above: { name: 'high' } },
        { name: 'alone', above: null },
      ] as Label[];
      // Three labels, and a note for each.
      expect(await changesOf(() => manager.save(Label, labels))).toBeGreaterThanOrEqual(6);
      Object.assign(labels[0] as Label, { name: 'lower' });
      Object.assign(labels[1] as Label, { above: labels[0] });
      // Two labels, a note for each, and the counts of all notes.
      expect(await changesOf(() => manager.save(Label, labels))).toBeGreaterThan(6);
      const relation = () => manager.createQueryBuilder().relation(Label, 'above').of(labels);
      expect(await changesOf(() => relation().set(null))).toBeGreaterThan(2);
    });
  });
});
