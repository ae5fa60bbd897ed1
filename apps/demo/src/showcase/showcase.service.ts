import { Injectable } from '@nestjs/common';
import { ListenerService } from 'nestjs-entity-webhooks';
import { OrdersService } from '../orders/orders.service.js';
import { type Received, ReceiverService } from '../receiver/receiver.service.js';
import { UsersService } from '../users/users.service.js';

const ORDERS = 12;
/** More requests than the showcase sends. */
const ALWAYS = Number.POSITIVE_INFINITY;

/** Traffic for the pages: a healthy listener, a failing one, a disabled one, and one whose retries succeed. */
@Injectable()
export class ShowcaseService {
  constructor(
    private readonly users: UsersService,
    private readonly orders: OrdersService,
    private readonly listeners: ListenerService,
    private readonly receiver: ReceiverService,
  ) {}

  /** @returns the owner of the listeners */
  async play(baseUrl: string): Promise<string> {
    const { id: customer } = await this.users.create('acme', 'webhooks@acme.example');
    const owner = String(customer);
    const listeners = this.listeners.forOwner(owner);
    const open = async (
      name: string,
      failures: number,
      listener: { name: string; events: string[]; description: string },
    ) => {
      const created = await listeners.create({ ...listener, url: `${baseUrl}/receiver/acme-${name}` });
      this.receiver.open(`acme-${name}`, created.secret, failures);
      return created.id;
    };
    await open('erp', 0, {
      name: 'Order sync',
      events: ['order.*'],
      description: 'Keeps the orders of the ERP current.',
    });
    await open('warehouse', ALWAYS, { name: 'Warehouse', events: ['order.updated'], description: 'Is down.' });
    await open('mail', 2, { name: 'Mail', events: ['order.created'], description: 'Failed twice, and works again.' });
    const crm = await open('crm', 0, { name: 'Old CRM', events: ['order.*'], description: 'Was replaced.' });
    await this.listeners.disable(crm, 'The contract has ended.');
    for (let number = 1; number <= ORDERS; number++) {
      const { id } = await this.orders.place(customer, number * 7_50);
      if (number % 2 === 0) await this.orders.pay(id);
    }
    return owner;
  }

  /** Whether a request is part of this traffic, which the demo does not print. */
  static isPart({ endpoint }: Received): boolean {
    return endpoint.startsWith('acme-');
  }
}
