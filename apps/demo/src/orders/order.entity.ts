import { Webhook } from 'nestjs-entity-webhooks';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** Each committed change makes an event, `order.created` or `order.updated`, for the listeners of the order's customer. */
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
