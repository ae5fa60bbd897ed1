import { expect, it } from 'vitest';
import { OwnerTurns } from '../../libs/webhooks/src/dispatcher/owner-turns.js';

it('excludes the owners that were served until no other owner is ready, and then starts again', () => {
  const turns = new OwnerTurns();
  expect(turns.claimed(['many', 'many', null], false)).toBe(false);
  expect(turns.except).toEqual(['many']);
  expect(turns.claimed(['one'], false)).toBe(false);
  expect(turns.except).toEqual(['many', 'one']);
  // All other listeners were looked at, but not those of the excluded owners.
  expect(turns.claimed([], true)).toBe(false);
  expect(turns.except).toEqual([]);
  expect(turns.claimed(['many'], true)).toBe(true);
  expect(turns.except).toEqual([]);
});
