// Misspelt on purpose. cspell:ignore stauts custmer creatd
import { Column, Entity, ManyToOne, PrimaryGeneratedColumn, type Relation } from 'typeorm';
import { EVERY_OWNER, Webhook, WebhooksModule } from 'nestjs-entity-webhooks';

// Not run: `tsc` checks that the wrong code here is an error and the right code is not.

class Address {
  @Column({ type: 'varchar' })
  city: string;
}

@Entity()
class Customer {
  @PrimaryGeneratedColumn()
  id: number;
}

class OrderColumns {
  @PrimaryGeneratedColumn()
  id: number;

  @Column({ type: 'varchar' })
  status: string;

  @Column({ type: 'varchar' })
  customerId: string;

  @Column(() => Address)
  address: Address;

  @ManyToOne(() => Customer)
  customer: Relation<Customer>;
}

/* Right. */

@Webhook()
export class Plain extends OrderColumns {}

@Webhook({
  name: 'order',
  on: ['created', 'deleted'],
  fields: ['id', 'status', 'address.city', 'customer'],
  owner: 'customerId',
})
export class Named extends OrderColumns {}

@Webhook({ owner: EVERY_OWNER })
export class Shared extends OrderColumns {}

@Webhook({
  owner: (order: WithFunctions) => order.customer.id,
  when: (order: WithFunctions, action) => order.status !== 'draft' || action === 'deleted',
})
export class WithFunctions extends OrderColumns {}

@Webhook({ owner: 'address.city' })
export class OwnedByEmbedded extends OrderColumns {}

@Webhook({ fields: ['id', 'status'], ignore: ['address.city', 'status'], coalesce: true, exactPrevious: true })
export class Quiet extends OrderColumns {}

@Webhook({ fields: ['id'] })
export abstract class Base {
  id: number;
}

WebhooksModule.forFeature([
  Plain,
  { entity: Named, fields: ['id', 'address.city', 'customer'], owner: 'customerId' },
  {
    entity: Shared,
    owner: (order: Shared) => order.customerId.toUpperCase(),
    when: (order: Shared) => order.status !== 'draft',
  },
  { entity: Customer, owner: EVERY_OWNER },
]);
WebhooksModule.forFeature([{ entity: Customer, owner: (customer: Customer) => customer.id }], 'billing');

/* Wrong. */

// @ts-expect-error -- there is no such property
@Webhook({ fields: ['id', 'stauts'] })
export class MisspeltField extends OrderColumns {}

// @ts-expect-error -- there is no such property
@Webhook({ ignore: ['stauts'] })
export class MisspeltIgnored extends OrderColumns {}

// @ts-expect-error -- there is no such property
@Webhook({ owner: 'custmerId' })
export class MisspeltOwner extends OrderColumns {}

// @ts-expect-error -- there is no such action
@Webhook({ on: ['creatd'] })
export class MisspeltAction extends OrderColumns {}

// @ts-expect-error -- the function takes another entity
@Webhook({ owner: (other: { tenant: string }) => other.tenant })
export class OtherEntity extends OrderColumns {}

// @ts-expect-error -- a Promise is no owner
@Webhook({ owner: async (order: AsyncOwner) => order.customerId })
export class AsyncOwner extends OrderColumns {}

// @ts-expect-error -- a Promise counts as true
@Webhook({ when: async (order: AsyncWhen) => order.status !== 'draft' })
export class AsyncWhen extends OrderColumns {}

// @ts-expect-error -- there is no such option
@Webhook({ field: ['id'] })
export class MisspeltOption extends OrderColumns {}

// @ts-expect-error -- there is no such property
WebhooksModule.forFeature([{ entity: Named, fields: ['typo'] }]);
// @ts-expect-error -- there is no such property
WebhooksModule.forFeature([{ entity: Named, ignore: ['typo'] }]);
// @ts-expect-error -- there is no such property
WebhooksModule.forFeature([Plain, { entity: Named, owner: 'typo' }]);
// @ts-expect-error -- the function takes another entity
WebhooksModule.forFeature([{ entity: Named, owner: (other: { tenant: string }) => other.tenant }]);

/* Descriptions for the catalogue. */

@Webhook({
  title: 'Order',
  describe: { status: 'Where it stands', address: 'Where it goes', 'address.city': { schema: { type: 'string' } } },
  events: { deleted: { deprecated: { since: '2026-10-01' } } },
  visibility: 'internal',
  examples: [{ id: 1 }],
})
export class Described extends OrderColumns {}

WebhooksModule.forFeature([{ entity: Named, describe: { status: 'Where it stands', 'address.city': 'The city' } }]);

// @ts-expect-error -- there is no such property
@Webhook({ describe: { stauts: 'Where it stands' } })
export class MisspeltDescription extends OrderColumns {}

// @ts-expect-error -- there is no such action
@Webhook({ events: { creatd: { description: 'x' } } })
export class MisspeltEvent extends OrderColumns {}

// @ts-expect-error -- there is no such property
WebhooksModule.forFeature([{ entity: Named, describe: { typo: 'x' } }]);
