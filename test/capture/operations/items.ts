import type { DeepPartial } from 'typeorm';
import type { JsonObject } from 'nestjs-entity-webhooks';

import { Item } from '../conformance-entities.js';
import type { OperationContext } from './operation.js';

type ItemData = Partial<Omit<Item, 'secret' | 'deletedAt'>> & { deletedAt?: string | null };

/** The payload of an item. */
export function item(id: number, values: ItemData = {}): JsonObject {
  return { id, name: `item ${id}`, amount: 0, code: null, customer: 'acme', deletedAt: null, ...values };
}

/** An item to write. */
export function row(id: number, values: DeepPartial<Item> = {}): DeepPartial<Item> {
  return { id, name: `item ${id}`, ...values };
}

/** Inserts the items 1, 2 and 3. */
export async function threeItems({ manager }: OperationContext): Promise<void> {
  await manager.save(Item, [row(1), row(2, { amount: 5 }), row(3, { code: 'three' })]);
}

export const TWO = item(2, { amount: 5 });
export const THREE = item(3, { code: 'three' });
export const STANDING = [{ id: 1 }, { id: 2 }, { id: 3 }];
