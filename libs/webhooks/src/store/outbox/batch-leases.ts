import type { Sql } from 'sql-template-tag';
import { newLease } from '../../ids.js';
import type { Database } from '../database/database.js';
import { insertFromRows } from '../database/json-rows.js';
import type { EventLease } from './leases.js';
import { toRuns } from './sequence-runs.js';

/** An event that a claim leases. */
interface LeasedEvent {
  readonly seq: unknown;
  readonly createdAt: unknown;
  /** How often it was claimed before. */
  readonly claims: number;
}

/** The new leases of a batch: one for each number of earlier claims, because a lease stores this number once for all of its events. */
export class BatchLeases {
  private readonly byClaims = new Map<number, ReturnType<typeof newGroup>>();
  private readonly bySeq = new Map<string, EventLease>();

  /** @param deliveries the number of deliveries without a row */
  add(event: LeasedEvent, deliveries: number): void {
    const group = this.byClaims.get(event.claims) ?? newGroup();
    this.byClaims.set(event.claims, group);
    group.events.push(event);
    group.lease.left.set(String(event.seq), deliveries);
    this.bySeq.set(String(event.seq), group.lease);
  }

  /** The lease of an event that was added. */
  of({ seq }: Pick<LeasedEvent, 'seq'>): EventLease | undefined {
    return this.bySeq.get(String(seq));
  }

  /** Inserts the leases. The caller deletes the outbox rows of their events. */
  inserting(database: Database, until: number): Sql[] {
    if (!this.byClaims.size) return [];
    const rows = [...this.byClaims].map(([claims, { lease, events }]) => {
      const times = events.map(({ createdAt }) => Number(createdAt));
      return {
        ...{ token: lease.token, claims: claims + 1, events: toRuns(events.map(({ seq }) => String(seq))) },
        ...{ leaseUntil: until, firstAt: Math.min(...times), lastAt: Math.max(...times) },
      };
    });
    const columns = { token: 'text', claims: 'bigint', events: 'text' } as const;
    const times = { leaseUntil: 'bigint', firstAt: 'bigint', lastAt: 'bigint' } as const;
    return [insertFromRows(database, 'leases', { ...columns, ...times }, rows)];
  }
}

function newGroup(): { readonly lease: EventLease; readonly events: LeasedEvent[] } {
  return { lease: { token: newLease(), left: new Map() }, events: [] };
}
