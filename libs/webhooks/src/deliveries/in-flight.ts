import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';

/**
 * The deliveries that this process is sending, and that have no row yet. Their rows are inserted with the outcome of the first attempt. Until
 * then, only this process knows them.
 */
export class InFlightDeliveries {
  private readonly byId = new Map<string, ClaimedDelivery>();

  add(deliveries: readonly ClaimedDelivery[]): void {
    for (const delivery of deliveries) if (delivery.seq === null) this.byId.set(delivery.id, delivery);
  }

  /** Call this method when the delivery has a row, or when this process no longer sends it. */
  delete(delivery: ClaimedDelivery): void {
    // This process may be sending the same delivery under a later lease.
    if (this.byId.get(delivery.id) === delivery) this.byId.delete(delivery.id);
  }

  get(id: string): ClaimedDelivery | undefined {
    return this.byId.get(id);
  }

  ofEvent(eventId: string): ClaimedDelivery[] {
    return [...this.byId.values()].filter(({ event }) => event.id === eventId);
  }
}
