import { Injectable } from '@nestjs/common';
import { DeliveryService, DispatcherService, ListenerService } from 'nestjs-entity-webhooks';
import { CardDeclinedException } from '../orders/card-declined.exception.js';
import { OrdersService } from '../orders/orders.service.js';
import { ReceiverService } from '../receiver/receiver.service.js';
import { User } from '../users/user.entity.js';
import { UsersService } from '../users/users.service.js';
import { compare, type Expected, judgeTour } from './judge-tour.js';

interface Step {
  readonly title: string;
  /** The webhooks that must arrive. No other webhook may arrive. */
  readonly expects: readonly Expected[];
  readonly play: () => Promise<void>;
}

/** The shop's address, the output of the tour, and its time limit. */
export interface TourGround {
  /** The URL of the shop, such as `http://127.0.0.1:3000`. */
  readonly baseUrl: string;
  readonly print: (line: string) => void;
  readonly deadlineMs: number;
}

/** Plays typical steps in the shop, and compares the received webhooks with the expected webhooks. */
@Injectable()
export class TourService {
  constructor(
    private readonly users: UsersService,
    private readonly orders: OrdersService,
    private readonly listeners: ListenerService,
    private readonly deliveries: DeliveryService,
    private readonly dispatcher: DispatcherService,
    private readonly receiver: ReceiverService,
  ) {}

  /** @returns the number of expected webhooks, and the problems. There are no problems if exactly these webhooks arrived */
  async play({ baseUrl, print, deadlineMs }: TourGround): Promise<{ expected: number; problems: string[] }> {
    const john = await this.users.create('john', 'john@home.example');
    const mary = await this.users.create('mary', 'mary@home.example');
    const steps = this.steps(john, mary, (endpoint) => `${baseUrl}/receiver/${endpoint}`);
    const deadline = AbortSignal.timeout(deadlineMs);
    const late: string[] = [];
    await Promise.race([this.playAll(steps, print, deadline), aborted(deadline)]).catch((error: unknown) => {
      if (!deadline.aborted) throw error;
      late.push(`the tour did not finish within ${deadlineMs / 1_000} s`);
    });
    const expected = steps.flatMap((step) => step.expects);
    const log = await this.deliveries.list({ limit: 100 });
    return {
      expected: expected.length,
      problems: [...late, ...judgeTour(expected, this.receiver.received, log.items)],
    };
  }

  private steps(john: User, mary: User, url: (endpoint: string) => string): Step[] {
    const { users, orders, listeners, receiver } = this;
    return [
      {
        title: 'John listens to users called john. He and mary change their e-mail addresses.',
        expects: [{ endpoint: 'johns-crm', type: 'user.updated', attempt: 1, data: { email: 'john@work.example' } }],
        play: async () => {
          const { secret } = await listeners.create({
            entity: User,
            property: 'username',
            value: 'john',
            url: url('johns-crm'),
            owner: String(john.id),
          });
          receiver.open('johns-crm', secret);
          await users.changeEmail(mary.id, 'mary@work.example');
          await users.changeEmail(john.id, 'john@work.example');
        },
      },
      {
        title: 'John listens to orders that become paid. John pays an order, and mary pays an order.',
        expects: [
          { endpoint: 'johns-shop', type: 'order.updated', attempt: 1, data: { status: 'paid', totalCents: 30_00 } },
        ],
        play: async () => {
          const { secret } = await listeners
            .forOwner(String(john.id))
            .create({ events: ['order.*'], where: { status: { changedTo: 'paid' } }, url: url('johns-shop') });
          receiver.open('johns-shop', secret);
          const hers = await orders.place(mary.id, 12_00);
          await orders.pay(hers.id);
          const his = await orders.place(john.id, 30_00);
          await orders.pay(his.id);
        },
      },
      {
        title: "Mary's receiver fails twice, and then it works again.",
        expects: [
          { endpoint: 'marys-erp', type: 'order.created', attempt: 3, data: { status: 'new', totalCents: 7_50 } },
        ],
        play: async () => {
          const { secret } = await listeners
            .forOwner(String(mary.id))
            .create({ events: ['order.created'], url: url('marys-erp') });
          receiver.open('marys-erp', secret, 2);
          await orders.place(mary.id, 7_50);
        },
      },
      {
        title: "John's card is declined: his order is rolled back, and nothing is sent.",
        expects: [],
        play: async () => {
          const { id } = await orders.place(john.id, 99_00);
          await orders.pay(id, 'declined').catch((error: unknown) => {
            if (!(error instanceof CardDeclinedException)) throw error;
          });
        },
      },
      {
        title: 'The shop publishes an event that is no entity change, in the transaction that counts the reminder.',
        expects: [{ endpoint: 'johns-bank', type: 'invoice.overdue', attempt: 1, data: { totalCents: 45_00 } }],
        play: async () => {
          const { secret } = await listeners
            .forOwner(String(john.id))
            .create({ events: ['invoice.*'], url: url('johns-bank') });
          receiver.open('johns-bank', secret);
          const { id } = await orders.place(john.id, 45_00);
          await orders.remind(id);
        },
      },
    ];
  }

  private async playAll(steps: readonly Step[], print: (line: string) => void, deadline: AbortSignal): Promise<void> {
    for (const [index, { title, expects, play }] of steps.entries()) {
      deadline.throwIfAborted();
      print(`\n${index + 1}. ${title}`);
      await play();
      await this.receiver.until(() => compare(expects, this.receiver.received).missing.length === 0);
    }
    // Send all remaining deliveries. After that, it is certain that no other webhook arrives.
    await this.dispatcher.stop();
    await this.dispatcher.drain();
    this.dispatcher.start();
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
