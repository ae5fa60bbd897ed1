import { Column, Entity, JoinColumn, ManyToOne, OneToMany, PrimaryGeneratedColumn, type Relation } from 'typeorm';
import { DeleteDateColumn } from 'typeorm';
import { Webhook } from 'nestjs-entity-webhooks';
import type { JsonObject } from 'nestjs-entity-webhooks';
import type { TestApp } from '../support/webhooks-app.js';

@Webhook({ owner: 'customerId' })
@Entity('shop_order')
export class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50, default: 'new' })
  status: string;

  @Column({ type: 'int', default: 0 })
  total: number;

  @Column({ type: 'varchar', length: 50, nullable: true })
  note: string | null;

  @Column({ type: 'varchar', length: 50, default: 'acme' })
  customerId: string;

  @OneToMany(() => Line, (line) => line.order, { cascade: ['insert', 'update'] })
  lines: Relation<Line>[];

  @DeleteDateColumn()
  deletedAt: Date | null;
}

@Webhook({ name: 'line' })
@Entity('shop_line')
export class Line {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  article: string;

  @ManyToOne(() => Order, (order) => order.lines, { onDelete: 'CASCADE', orphanedRowAction: 'delete' })
  @JoinColumn()
  order: Relation<Order>;
}

/** Not captured. */
@Entity('shop_audit')
export class Audit {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar', length: 50 })
  text: string;
}

export interface StoredEvent {
  type: string;
  data: JsonObject;
  previous?: JsonObject;
}

/** Every event in the outbox, in order. */
export async function storedEvents({ dataSource }: Pick<TestApp, 'dataSource'>): Promise<StoredEvent[]> {
  const rows: { payload: string }[] = await dataSource.query('SELECT payload FROM webhook_events ORDER BY seq');
  return rows.map(({ payload }) => {
    const { type, data, previous } = JSON.parse(payload) as StoredEvent;
    return { type, data, ...(previous ? { previous } : {}) };
  });
}

/** The events as short texts: `order.created 1`. */
export async function stories(app: Pick<TestApp, 'dataSource'>): Promise<string[]> {
  const events = await storedEvents(app);
  return events.map(({ type, data }) => `${type} ${String(data.status ?? data.article ?? data.id)}`);
}
