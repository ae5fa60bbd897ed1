import {
  Column,
  CreateDateColumn,
  DeleteDateColumn,
  Entity,
  JoinColumn,
  JoinTable,
  ManyToMany,
  ManyToOne,
  OneToMany,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  Tree,
  TreeChildren,
  TreeParent,
  UpdateDateColumn,
  VersionColumn,
  type ColumnOptions,
  type DataSource,
  type Relation,
} from 'typeorm';
import { ChildEntity, TableInheritance } from 'typeorm';
import { EVERY_OWNER, Webhook } from 'nestjs-entity-webhooks';
import type { DatabaseFamily } from './every-kind.js';

/** Most operations write this entity. The writer gives its key, so that the expected events are known. */
@Webhook({ owner: 'customer' })
@Entity('conf_item')
export class Item {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  @Column({ type: 'int', default: 0 })
  amount: number;

  @Column({ type: 'varchar', length: 50, nullable: true, unique: true })
  code: string | null;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customer: string;

  /** Never in a payload. */
  @Column({ type: 'varchar', length: 50, nullable: true, select: false })
  secret: string | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

/** Changes of a row in one transaction make one event. */
@Webhook({ coalesce: true })
@Entity('conf_draft')
export class Draft {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  @Column({ type: 'int', default: 0 })
  pages: number;
}

/** The database generates its key. */
@Webhook({ owner: EVERY_OWNER })
@Entity('conf_numbered')
export class Numbered {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  @Column({ type: 'varchar', length: 50, default: 'filled' })
  filled: string;
}

@Webhook()
@Entity('conf_ticket')
export class Ticket {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @Column({ type: 'varchar', length: 50 })
  title: string;

  @Column({ type: 'varchar', length: 20, unique: true })
  code: string;
}

@Webhook()
@Entity('conf_booking')
export class Booking {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  room: string;

  @PrimaryColumn({ type: 'int' })
  day: number;

  @Column({ type: 'int', default: 1 })
  seats: number;
}

@Webhook()
@Entity('conf_basket')
export class Basket {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  label: string;

  @OneToMany(() => BasketLine, (line) => line.basket, { cascade: true })
  lines: Relation<BasketLine>[];
}

@Webhook()
@Entity('conf_basket_line')
export class BasketLine {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  article: string;

  @ManyToOne(() => Basket, (basket) => basket.lines, { onDelete: 'CASCADE', nullable: true })
  @JoinColumn()
  basket: Relation<Basket> | null;
}

/** The database changes its foreign key when the other row is deleted or gets another key. */
@Webhook()
@Entity('conf_label')
export class Label {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToOne(() => Basket, { nullable: true, onDelete: 'SET NULL', onUpdate: 'CASCADE' })
  @JoinColumn()
  basket: Relation<Basket> | null;
}

/** Has a lazy relation, and a relation to many rows through a junction. */
@Webhook()
@Entity('conf_article')
export class Article {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  title: string;

  @ManyToOne(() => Basket, { nullable: true })
  @JoinColumn()
  basket: Promise<Relation<Basket> | null>;

  @ManyToMany(() => Booking)
  @JoinTable({ name: 'conf_article_bookings' })
  bookings: Relation<Booking>[];
}

/** Its links are in the payload. Triggers cannot capture links, so it is captured by TypeORM in both modes. */
@Webhook({ fields: ['id', 'title', 'pupils', 'bookings'], capture: 'orm' })
@Entity('conf_course')
export class Course {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  title: string;

  @ManyToMany(() => Pupil, (pupil) => pupil.courses, { cascade: true })
  @JoinTable({ name: 'conf_course_pupils' })
  pupils: Relation<Pupil>[];

  /** Their keys have two columns. */
  @ManyToMany(() => Booking)
  @JoinTable({ name: 'conf_course_bookings' })
  bookings: Relation<Booking>[];
}

@Entity('conf_pupil')
export class Pupil {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'no name' })
  name: string;

  @ManyToMany(() => Course, (course) => course.pupils)
  courses: Relation<Course>[];
}

@Webhook()
@Entity('conf_category')
@Tree('materialized-path')
export class Category {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  @TreeParent()
  parent: Relation<Category> | null;

  @TreeChildren()
  children: Relation<Category>[];
}

@Webhook()
@Entity('conf_animal')
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
export class Animal {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;

  /** The discriminator. */
  @Column({ type: 'varchar' })
  kind: string;
}

@ChildEntity()
export class Dog extends Animal {
  @Column({ type: 'varchar', length: 50, nullable: true })
  trick: string | null;
}

/** Not captured. */
@Entity('conf_plain')
export class Plain {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 50 })
  name: string;
}

const GENERATED: ColumnOptions = { generatedType: 'STORED', asExpression: 'base * 2', nullable: true };

const BY_FAMILY = {
  sqlite: {
    instant: { type: 'datetime' },
    bytes: { type: 'blob' },
    level: { type: 'simple-enum', enum: ['low', 'high'] },
    list: { type: 'simple-json' },
    automatic: {},
    doubled: GENERATED,
  },
  postgres: {
    instant: { type: 'timestamptz', precision: 3 },
    bytes: { type: 'bytea' },
    level: { type: 'enum', enum: ['low', 'high'] },
    list: { type: 'text', array: true },
    automatic: { type: 'timestamptz', precision: 3 },
    doubled: GENERATED,
  },
  mysql: {
    instant: { type: 'datetime', precision: 3 },
    bytes: { type: 'blob' },
    level: { type: 'enum', enum: ['low', 'high'] },
    list: { type: 'simple-json' },
    automatic: { precision: 3 },
    // TypeORM adds NULL or NOT NULL, and MariaDB accepts neither: {@link finishTables} turns it into a generated column.
    doubled: { nullable: true },
  },
} satisfies Record<DatabaseFamily, Record<string, ColumnOptions>>;

const cents = {
  to: (value: { cents: number } | null) => value?.cents ?? null,
  from: (value: number | null) => (value === null ? null : { cents: value }),
};

/** An entity with a column of every type of the database. */
export interface Typed {
  id: string;
  price: string;
  day: string;
  instant: Date;
  json: object;
  bytes: Buffer;
  level: 'low' | 'high';
  list: string[];
  cost: { cents: number } | null;
  address: { city: string | null; zip: string | null };
  doubled: number;
  base: number;
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

function typedFor(family: DatabaseFamily) {
  const types = BY_FAMILY[family];
  class Address {
    @Column({ type: 'varchar', length: 50, nullable: true })
    city: string | null;

    @Column({ type: 'varchar', length: 10, nullable: true })
    zip: string | null;
  }

  @Webhook({ name: 'typed' })
  @Entity('conf_typed')
  class TypedRow implements Typed {
    @PrimaryColumn({ type: 'bigint' })
    id: string;

    @Column({ type: 'decimal', precision: 12, scale: 2, default: '1.50' })
    price: string;

    @Column({ type: 'date' })
    day: string;

    @Column(types.instant as ColumnOptions)
    instant: Date;

    @Column({ type: 'simple-json' })
    json: object;

    @Column(types.bytes as ColumnOptions)
    bytes: Buffer;

    @Column(types.level as ColumnOptions)
    level: 'low' | 'high';

    @Column(types.list as ColumnOptions)
    list: string[];

    @Column({ type: 'int', nullable: true, transformer: cents })
    cost: { cents: number } | null;

    @Column(() => Address)
    address: Address;

    @Column({ type: 'int', ...types.doubled, insert: false, update: false })
    doubled: number;

    @Column({ type: 'int', default: 1 })
    base: number;

    @VersionColumn()
    version: number;

    @CreateDateColumn(types.automatic as ColumnOptions)
    createdAt: Date;

    @UpdateDateColumn(types.automatic as ColumnOptions)
    updatedAt: Date;
  }
  return TypedRow;
}

export type ConformanceEntities = ReturnType<typeof conformanceEntities>;

/** Every entity of the operations, with the column types of a database. */
export function conformanceEntities(family: DatabaseFamily) {
  return {
    Typed: typedFor(family),
    decorated: [Item, Draft, Numbered, Ticket, Booking, Basket, BasketLine, Article, Label, Course, Category, Animal],
    others: [Dog, Plain, Pupil],
  };
}

/** Creates the parts of the tables that TypeORM's schema builder cannot create. */
export async function finishTables(dataSource: DataSource, family: DatabaseFamily): Promise<void> {
  if (family !== 'mysql') return;
  await dataSource.query('ALTER TABLE conf_typed MODIFY doubled int GENERATED ALWAYS AS (base * 2) STORED');
}
