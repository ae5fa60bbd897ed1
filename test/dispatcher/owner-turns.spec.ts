import { expect, it } from 'vitest';
import { OwnerTurns } from '../../libs/webhooks/src/dispatcher/owner-turns.js';

it('leaves out whoever was served until nobody else is ready, and begins anew then', () => {
  const turns = new OwnerTurns();
  expect(turns.claimed(['many', 'many', null], false)).toBe(false);
  expect(turns.except).toEqual(['many']);
  expect(turns.claimed(['one'], false)).toBe(false);
  expect(turns.except).toEqual(['many', 'one']);
  // All the others were looked at: those that were left out were not.
  expect(turns.claimed([], true)).toBe(false);
  expect(turns.except).toEqual([]);
  expect(turns.claimed(['many'], true)).toBe(true);
  expect(turns.except).toEqual([]);
});
