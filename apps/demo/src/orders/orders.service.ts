import { Injectable, NotFoundException } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { WebhooksService } from 'nestjs-entity-webhooks';
import { DataSource, type EntityManager } from 'typeorm';
import { UsersService } from '../users/users.service.js';
import { CardDeclinedException } from './card-declined.exception.js';
import { Order } from './order.entity.js';

@Injectable()
export class OrdersService {
  constructor(
    @InjectDataSource() private readonly dataSource: DataSource,
    private readonly users: UsersService,
    private readonly webhooks: WebhooksService,
  ) {}

  /** Stores an order with an ordinary `save()`. The module captures the change. */
  async place(customerId: number, totalCents: number): Promise<Order> {
    await this.users.get(customerId);
    return this.dataSource.manager.save(this.dataSource.manager.create(Order, { customerId, totalCents }));
  }

  /** Pays an order. If the card is declined, the change of the order and its event are rolled back together. */
  async pay(id: number, card: 'accepted' | 'declined' = 'accepted'): Promise<Order> {
    return this.dataSource.transaction(async (manager) => {
      const order = await get(manager, id);
      order.status = 'paid';
      await manager.save(order);
      if (card === 'declined') throw new CardDeclinedException();
      return order;
    });
  }

  /**
   * Publishes an event that is not a change of an entity. With `manager`, the event joins the transaction that counts the
   * reminder.
   */
  async remind(id: number): Promise<Order> {
    return this.dataSource.transaction(async (manager) => {
      const order = await get(manager, id);
      order.reminders += 1;
      await manager.save(order);
      const { customerId, totalCents } = order;
      await this.webhooks.publish('invoice.overdue', { orderId: id, totalCents }, { owner: customerId, manager });
      return order;
    });
  }
}

async function get(manager: EntityManager, id: number): Promise<Order> {
  const order = await manager.findOneBy(Order, { id });
  if (!order) throw new NotFoundException(`There is no order ${id}.`);
  return order;
}
