import { Webhook } from 'nestjs-entity-webhooks';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** Each committed change is an event, `order.created` or `order.updated`, that its customer's listeners may receive. */
@Webhook({ fields: ['id', 'customerId', 'status', 'totalCents'], owner: 'customerId' })
@Entity()
export class Order {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'int' })
  customerId: number;

  @Column({ type: 'varchar', length: 20, default: 'new' })
  status: 'new' | 'paid';

  @Column({ type: 'int' })
  totalCents: number;

  @Column({ type: 'int', default: 0 })
  reminders: number;
}
