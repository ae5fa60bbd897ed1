import { ApiProperty } from '@nestjs/swagger';
import {
  Column,
  CreateDateColumn,
  DataSource,
  Entity,
  JoinColumn,
  JoinTable,
  ManyToMany,
  ManyToOne,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  type DataSourceOptions,
  type Relation,
} from 'typeorm';
import { EVERY_OWNER, Webhook } from 'nestjs-entity-webhooks';
import { webhookCatalog, type WebhookCatalog } from 'nestjs-entity-webhooks/catalog';

class Address {
  @Column({ type: 'varchar' })
  city: string;

  @Column({ type: 'varchar', nullable: true, comment: 'As the post office writes it' })
  zip: string | null;
}

@Entity('cat_label')
class Label {
  @PrimaryGeneratedColumn('uuid')
  id: string;
}

@Entity('cat_shelf')
class Shelf {
  @PrimaryColumn({ type: 'varchar' })
  room: string;

  @PrimaryColumn({ type: 'bigint' })
  number: string;
}

@Webhook({
  name: 'order',
  owner: 'customerId',
  title: 'Order',
  group: 'Sales',
  description: 'An order of one customer.',
  fields: ['id', 'status', 'total', 'customerId', 'address', 'weight', 'notes', 'shelf', 'labels', 'createdAt'],
  describe: {
    status: 'Where it stands',
    address: 'Where it goes',
    notes: { description: 'Remarks */ of the "buyer"', schema: { type: 'array', items: { type: 'string' } } },
  },
  events: {
    updated: { description: 'Any change of status or total.' },
    restored: { deprecated: { since: '2026-10-01', sunset: '2027-04-01', use: 'order.created' } },
  },
})
@Entity('cat_order')
export class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'simple-enum', enum: ['new', 'paid'] })
  status: string;

  @ApiProperty({ description: 'Gross, in EUR', example: 42.5 })
  @Column({ type: 'decimal', precision: 10, scale: 2, nullable: true, comment: 'not used' })
  total: string | null;

  @Column({ type: 'varchar' })
  customerId: string;

  @Column(() => Address)
  address: Address;

  @Column({ type: 'double precision' })
  weight: number;

  @Column({ type: 'varchar', nullable: true, transformer: { to: String, from: String } })
  notes: string | null;

  @ManyToOne(() => Shelf, { nullable: true })
  @JoinColumn()
  shelf: Relation<Shelf> | null;

  @ManyToMany(() => Label)
  @JoinTable({ name: 'cat_order_labels' })
  labels: Relation<Label>[];

  @CreateDateColumn()
  createdAt: Date;
}

@Webhook({ name: 'audit', on: ['created'], visibility: 'internal', owner: EVERY_OWNER })
@Entity('cat_audit')
export class Audit {
  @PrimaryGeneratedColumn()
  id: number;
}

export const ENTITIES = [Order, Label, Shelf, Audit];

export const PUBLISHED_TYPES = [
  'ping',
  {
    type: 'invoice.overdue',
    title: 'Invoice overdue',
    group: 'Billing',
    schema: {
      type: 'object',
      properties: { invoiceId: { type: 'integer' }, dueOn: { type: 'string', format: 'date' } },
      required: ['invoiceId'],
    },
  },
  { type: 'invoice.paid', fields: ['id', 'payer.name'], examples: [{ id: 7, payer: { name: 'Ada' } }] },
  { type: 'stock.low', visibility: 'internal' as const, fields: ['article'] },
];

/** A data source that can reach no database: its port is closed. */
export function closedDataSource(
  entities: readonly unknown[],
  type: DataSourceOptions['type'] = 'postgres',
): DataSource {
  const common = { entities: [...entities] as never };
  const options: Partial<Record<DataSourceOptions['type'], DataSourceOptions>> = {
    postgres: { type: 'postgres', url: 'postgres://nobody@127.0.0.1:1/none', ...common },
    mysql: { type: 'mysql', url: 'mysql://nobody@127.0.0.1:1/none', ...common },
    mariadb: { type: 'mariadb', url: 'mysql://nobody@127.0.0.1:1/none', ...common },
    'better-sqlite3': { type: 'better-sqlite3', database: '/nowhere/none.sqlite', ...common },
  };
  return new DataSource(options[type] as DataSourceOptions);
}

export function shopCatalog(type?: DataSourceOptions['type']): Promise<WebhookCatalog> {
  return webhookCatalog(closedDataSource(ENTITIES, type), { publishedTypes: PUBLISHED_TYPES });
}
