import type { DataSource, EntitySubscriberInterface } from 'typeorm';

/**
 * Adds a subscriber to a data source. `destroy()` and `initialize()` assign a new list to `dataSource.subscribers`. A setter adds the
 * subscriber to each new list, so the subscription survives both calls.
 */
export function keepSubscribed(dataSource: DataSource, subscriber: EntitySubscriberInterface): void {
  let { subscribers } = dataSource;
  Object.defineProperty(dataSource, 'subscribers', {
    configurable: true,
    enumerable: true,
    get: () => subscribers,
    set: (list: EntitySubscriberInterface[]) => {
      subscribers = list.includes(subscriber) ? list : [...list, subscriber];
    },
  });
  (dataSource as { subscribers: EntitySubscriberInterface[] }).subscribers = subscribers;
}

/** Removes the subscriber, and makes `dataSource.subscribers` a plain property again. */
export function unsubscribe(dataSource: DataSource, subscriber: EntitySubscriberInterface): void {
  Object.defineProperty(dataSource, 'subscribers', {
    configurable: true,
    enumerable: true,
    writable: true,
    value: dataSource.subscribers.filter((one) => one !== subscriber),
  });
}
