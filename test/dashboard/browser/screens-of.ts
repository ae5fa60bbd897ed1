import type { Shop } from '../shop-app.js';

export type Screens = Readonly<Record<string, string>>;

/** Every screen, with something of the shop's traffic to show. Customers of `acme` may open all of them. */
export async function screensOf({ deliveries, listeners, tasks, clock }: Shop): Promise<Screens> {
  const [failing] = (await deliveries.list({ state: 'due', owner: 'acme' })).items;
  const [good] = (await deliveries.list({ state: 'succeeded', owner: 'acme' })).items;
  const [update] = (await deliveries.list({ type: 'order.updated', owner: 'acme' })).items;
  const bad = (await listeners.list({ owner: 'acme' })).items.find(({ url }) => url.includes('warehouse'));
  const since = new Date(clock.now() - 24 * 3_600_000);
  const task = await tasks
    .forOwner('acme')
    .withActor('user of acme')
    .create({ kind: 'recover', since, ratePerSecond: 5 });
  if (!failing || !good || !update || !bad) throw new Error('The traffic has not made what the screens show.');
  return {
    overview: '/overview',
    'overview-1h': '/overview?range=1h',
    deliveries: '/deliveries',
    'deliveries-none': '/deliveries?state=exhausted',
    delivery: `/deliveries/${failing.id}`,
    'delivery-good': `/deliveries/${good.id}`,
    events: '/events',
    event: `/events/${update.eventId}`,
    listeners: '/listeners',
    listener: `/listeners/${bad.id}`,
    'listener-settings': `/listeners/${bad.id}?tab=settings`,
    'listener-test': `/listeners/${bad.id}?tab=test`,
    'listener-code': `/listeners/${bad.id}?tab=code`,
    'listener-new': '/listeners/new?type=order.updated',
    'listener-edit': `/listeners/${bad.id}/edit`,
    types: '/catalogue',
    type: '/catalogue/order.updated',
    tasks: '/tasks',
    'tasks-none': '/tasks?state=failed',
    task: `/tasks/${task.id}`,
    'task-new': `/tasks/new?kind=discard&listenerId=${bad.id}`,
    system: '/system',
    'system-damaged': '/system?tab=damaged',
    'system-audit': '/system?tab=audit',
    'system-sessions': '/system?tab=sessions',
    'system-sender': '/system?tab=sender',
    missing: '/nothing',
  };
}
