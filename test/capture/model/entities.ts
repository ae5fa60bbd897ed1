import {
  AfterInsert,
  AfterLoad,
  AfterUpdate,
  BeforeInsert,
  BeforeUpdate,
  ChildEntity,
  Column,
  CreateDateColumn,
  DeleteDateColumn,
  Entity,
  Index,
  JoinColumn,
  ManyToOne,
  OneToMany,
  OneToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  UpdateDateColumn,
  VersionColumn,
  type Relation,
} from 'typeorm';
import type { WebhookFeature } from 'nestjs-entity-webhooks';
import type { DatabaseFamily } from '../every-kind.js';

/** The writer gives its key, it has an owner, and it can be soft-deleted. */
@Entity('model_item')
export class Item {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'none' })
  name: string;

  @Column({ type: 'int', default: 0 })
  amount: number;

  @Column({ type: 'decimal', precision: 8, scale: 2, default: '1.50' })
  price: string;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @Column({ type: 'varchar', length: 20, default: 'acme' })
  customer: string;

  @Column({ type: 'varchar', length: 20, nullable: true, select: false })
  secret: string | null;

  @DeleteDateColumn()
  deletedAt: Date | null;
}

/** The database generates its key, fills a column and maintains dates. */
@Entity('model_numbered')
export class Numbered {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 20 })
  name: string;

  @Column({ type: 'int', default: 7 })
  amount: number;

  @CreateDateColumn({ precision: 3 })
  createdAt: Date;

  @UpdateDateColumn({ precision: 3 })
  updatedAt: Date;

  @VersionColumn()
  version: number;
}

/** TypeORM or the database generates its key, and it can be found by a unique column. */
@Entity('model_ticket')
export class Ticket {
  @PrimaryGeneratedColumn('uuid')
  id: string;

  @Column({ type: 'varchar', length: 20 })
  title: string;

  @Column({ type: 'varchar', length: 20, unique: true })
  code: string;

  @Column({ type: 'int', default: 3 })
  amount: number;
}

/** Its key has two columns. */
@Entity('model_booking')
export class Booking {
  @PrimaryColumn({ type: 'varchar', length: 20 })
  room: string;

  @PrimaryColumn({ type: 'int' })
  day: number;

  @Column({ type: 'int', default: 1 })
  amount: number;
}

@Entity('model_cart')
export class Cart {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'cart' })
  name: string;

  @OneToMany(() => Line, (line) => line.cart, { cascade: true })
  lines: Relation<Line>[];

  @OneToOne(() => Slip, (slip) => slip.cart, { cascade: true })
  slip: Relation<Slip> | null;
}

@Entity('model_line')
export class Line {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'pen' })
  name: string;

  @Column({ type: 'varchar', length: 20, nullable: true, unique: true })
  code: string | null;

  @ManyToOne(() => Cart, (cart) => cart.lines, { nullable: true })
  @JoinColumn()
  cart: Relation<Cart> | null;
}

@Entity('model_slip')
export class Slip {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'slip' })
  name: string;

  @OneToOne(() => Cart, (cart) => cart.slip, { nullable: true })
  @JoinColumn()
  cart: Relation<Cart> | null;
}

/** Its hooks encode a value before each write and decode it after each read. Only the encoded value may be in a payload. */
@Entity('model_vault')
export class Vault {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'vault' })
  name: string;

  @Column({ type: 'varchar', length: 40, default: 'closed:none' })
  iban: string;

  @BeforeInsert()
  @BeforeUpdate()
  close(): void {
    if (this.iban !== undefined && !this.iban.startsWith('closed:')) this.iban = `closed:${this.iban}`;
  }

  @AfterLoad()
  @AfterInsert()
  @AfterUpdate()
  open(): void {
    if (this.iban !== undefined) this.iban = this.iban.replace('closed:', '');
  }
}

/** References rows of the same table. */
@Entity('model_node')
export class Node {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'node' })
  name: string;

  @ManyToOne(() => Node, (node) => node.children, { nullable: true, cascade: ['insert'] })
  @JoinColumn()
  parent: Relation<Node> | null;

  @OneToMany(() => Node, (node) => node.parent, { cascade: true })
  children: Relation<Node>[];
}

@Entity('model_animal')
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
export class Animal {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'varchar', length: 20, default: 'animal' })
  name: string;
}

/** Shares the table of its parent. */
@ChildEntity()
export class Dog extends Animal {
  @Column({ type: 'varchar', length: 20, nullable: true })
  trick: string | null;
}

/** Not captured. */
@Entity('model_buyer')
export class Buyer {
  @PrimaryColumn({ type: 'int' })
  tenant: number;

  @PrimaryColumn({ type: 'int' })
  id: number;
}

/** Its foreign key shares a column with a property. */
@Entity('model_invoice')
export class Invoice {
  @PrimaryColumn({ type: 'int' })
  id: number;

  @Column({ type: 'int', default: 1 })
  tenant: number;

  @Column({ type: 'varchar', length: 20, default: 'bill' })
  name: string;

  @ManyToOne(() => Buyer, { nullable: true })
  @JoinColumn([
    { name: 'tenant', referencedColumnName: 'tenant' },
    { name: 'buyerId', referencedColumnName: 'id' },
  ])
  buyer: Relation<Buyer> | null;
}

/** At most one live row for each key; soft-deleted rows do not count. */
function settingFor(family: DatabaseFamily) {
  @Entity('model_setting')
  class Setting {
    @PrimaryGeneratedColumn()
    id: number;

    @Column({ type: 'varchar', length: 20 })
    name: string;

    @Column({ type: 'int', default: 0 })
    amount: number;

    @DeleteDateColumn()
    deletedAt: Date | null;
  }
  if (family === 'mysql') Index(['name'])(Setting);
  else Index(['name'], { unique: true, where: '"deletedAt" IS NULL' })(Setting);
  return Setting;
}

/** Every entity of the model by name, with the column types of a database. */
export function modelEntities(family: DatabaseFamily) {
  const captured = {
    ...{ Item, Numbered, Ticket, Booking, Cart, Line, Slip, Vault, Invoice, Node, Animal, Dog },
    Setting: settingFor(family),
  };
  return { captured, others: { Buyer } };
}

export type EntityName = keyof ReturnType<typeof modelEntities>['captured'];

/** The entities for `forFeature()`. @param coalesce one event for each row and transaction */
export function modelFeatures(family: DatabaseFamily, coalesce: boolean): WebhookFeature[] {
  const { captured } = modelEntities(family);
  return Object.entries(captured).map(([name, entity]) => ({
    entity,
    coalesce,
    ...(name === 'Item' ? { owner: 'customer' } : {}),
  })) as WebhookFeature[];
}

/** The entities in the order in which their rows can be deleted: entities with references come first. */
export const MODEL_TABLES = [
  ...['model_line', 'model_slip', 'model_cart', 'model_invoice', 'model_item', 'model_numbered', 'model_ticket'],
  ...['model_booking', 'model_vault', 'model_setting', 'model_animal', 'model_node'],
] as const;
