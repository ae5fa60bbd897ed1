import {
  Column,
  DeleteDateColumn,
  Entity,
  JoinColumn,
  ManyToOne,
  OneToMany,
  OneToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  ChildEntity,
  UpdateDateColumn,
  VersionColumn,
  type Relation,
} from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';

// Entities that TypeORM saves in different ways.

@Webhook()
@Entity('given')
export class Given {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'usual' })
  name: string;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('drawn')
export class Drawn {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'usual' })
  name: string;
}

@Webhook()
@Entity('unique_one')
export class Unique {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @Column({ type: 'varchar', length: 20, default: 'usual' })
  name: string;
}

@Webhook()
@Entity('cart')
export class Cart {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'cart' })
  name: string;

  @OneToMany(() => Line, ({ cart }) => cart, { cascade: true })
  lines: Relation<Line>[];

  @OneToMany(() => Note, ({ cart }) => cart)
  notes: Relation<Note>[];

  @OneToMany(() => Gone, ({ cart }) => cart)
  gone: Relation<Gone>[];

  @OneToMany(() => Hidden, ({ cart }) => cart)
  hidden: Relation<Hidden>[];

  @OneToMany(() => Kept, ({ cart }) => cart)
  kept: Relation<Kept>[];

  @OneToOne(() => Slip, ({ cart }) => cart, { cascade: true })
  slip: Relation<Slip> | null;
}

abstract class OfCart {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'child' })
  name: string;
}

@Webhook()
@Entity('line')
export class Line extends OfCart {
  @ManyToOne(() => Cart, ({ lines }) => lines)
  cart: Relation<Cart> | null;
}

/** Refers to its cart by id only: no cascade. */
@Webhook()
@Entity('note')
export class Note extends OfCart {
  @ManyToOne(() => Cart, ({ notes }) => notes)
  cart: Relation<Cart> | null;
}

@Webhook()
@Entity('gone')
export class Gone extends OfCart {
  @ManyToOne(() => Cart, ({ gone }) => gone, { orphanedRowAction: 'delete' })
  cart: Relation<Cart> | null;
}

@Webhook({ fields: ['id', 'cart'] })
@Entity('hidden')
export class Hidden extends OfCart {
  @ManyToOne(() => Cart, ({ hidden }) => hidden, { orphanedRowAction: 'soft-delete' })
  cart: Relation<Cart> | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook()
@Entity('kept')
export class Kept extends OfCart {
  @ManyToOne(() => Cart, ({ kept }) => kept, { orphanedRowAction: 'disable' })
  cart: Relation<Cart> | null;
}

@Webhook()
@Entity('slip')
export class Slip {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @OneToOne(() => Cart, ({ slip }) => slip)
  @JoinColumn()
  cart: Relation<Cart> | null;
}

/** A row links two carts, and its key consists of both ids. */
@Webhook()
@Entity('route')
export class Route {
  @PrimaryColumn({ type: 'int' })
  fromId: number;

  @PrimaryColumn({ type: 'int' })
  toId: number;

  @ManyToOne(() => Cart)
  from: Relation<Cart>;

  @ManyToOne(() => Cart)
  to: Relation<Cart>;

  @Column({ type: 'int', default: 0 })
  amount: number;
}

class Address {
  @Column({ type: 'varchar', length: 20, default: 'here' })
  city: string;
}

@Webhook({ fields: ['room', 'day', 'amount', 'version', 'address.city'] })
@Entity('booking')
export class Booking {
  @PrimaryColumn({ type: 'varchar', length: 10 })
  room: string;

  @PrimaryColumn({ type: 'int' })
  day: number;

  @Column({ type: 'int', default: 0 })
  amount: number;

  @Column(() => Address)
  address: Address;

  @VersionColumn()
  version: number;

  @UpdateDateColumn()
  changedAt: Date;
}

@Webhook()
@Entity('node')
export class Node {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToOne(() => Node, ({ children }) => children)
  parent: Relation<Node> | null;

  @OneToMany(() => Node, ({ parent }) => parent, { cascade: true })
  children: Relation<Node>[];
}

@Webhook()
@Entity('lazy')
export class Lazy {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @ManyToOne(() => Cart, { lazy: true })
  cart: Promise<Cart | null> | Cart | null;
}

@Webhook()
@Entity('animal')
@TableInheritance({ column: { type: 'varchar', length: 20, name: 'kind' } })
export class Animal {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'nobody' })
  name: string;
}

@Webhook()
@ChildEntity()
export class Dog extends Animal {
  @Column({ type: 'int', nullable: true })
  tricks: number | null;
}

export const SAVED_ENTITIES = [
  ...[Given, Drawn, Unique, Cart, Line, Note, Gone, Hidden, Kept, Slip, Route],
  ...[Booking, Node, Lazy, Animal, Dog],
];

/** The entities in the order in which their rows can be deleted. */
export const SAVED_TABLES = [
  ...['given', 'drawn', 'unique_one', 'line', 'note', 'gone', 'hidden', 'kept', 'slip', 'route', 'lazy', 'cart'],
  ...['booking', 'animal', 'node'],
];
