import { describe, expect, it } from 'vitest';
import { netChange, type NetChange } from '../../libs/webhooks/src/capture/changes/coalesce.js';
import type { EntityAction } from '../../libs/webhooks/src/entities/webhook.decorator.js';

const ACTIONS: readonly EntityAction[] = ['created', 'updated', 'deleted', 'restored'];

/** Whether the row is visible to a reader: an independent way to compute the result of a list of changes. */
type Sight = 'absent' | 'hidden' | 'visible';

/** A change that the row allows, and the row after it. */
const ALLOWED: Readonly<Record<Sight, Partial<Record<EntityAction, readonly Sight[]>>>> = {
  absent: { created: ['visible'] },
  hidden: { updated: ['hidden'], restored: ['visible'], deleted: ['absent'] },
  visible: { updated: ['visible'], deleted: ['hidden', 'absent'] },
};

/** Every list of up to four changes that a row can have, with its first and last state. */
function* histories(
  first: Sight,
  now: Sight,
  actions: readonly EntityAction[] = [],
): Generator<{ first: Sight; last: Sight; actions: [EntityAction, ...EntityAction[]] }> {
  if (actions.length) yield { first, last: now, actions: [...actions] as [EntityAction, ...EntityAction[]] };
  if (actions.length === 4) return;
  for (const action of ACTIONS) {
    for (const next of ALLOWED[now][action] ?? []) yield* histories(first, next, [...actions, action]);
  }
}

describe('the net change of several changes of one row', () => {
  it.each<[EntityAction[], NetChange]>([
    [['created', 'updated'], 'created'],
    [['created', 'deleted'], 'unmade'],
    [['created', 'deleted', 'restored'], 'created'],
    [['created', 'deleted', 'created'], 'created'],
    [['updated', 'updated'], 'updated'],
    [['updated', 'deleted'], 'deleted'],
    [['updated', 'restored'], 'restored'],
    [['deleted', 'restored'], 'updated'],
    [['deleted', 'created'], 'updated'],
    [['deleted', 'updated'], 'deleted'],
    [['deleted', 'deleted'], 'deleted'],
    [['restored', 'updated'], 'restored'],
    [['restored', 'deleted'], 'unrestored'],
    [['restored', 'deleted', 'restored'], 'restored'],
  ])('%j is %s', (actions, net) => {
    expect(netChange(actions as [EntityAction, ...EntityAction[]])).toBe(net);
  });

  it('is a creation, an update or a deletion by the first and last state, whatever happened in between', () => {
    const netChanges = new Set<string>();
    for (const first of ['absent', 'visible'] as const) {
      for (const { last, actions } of histories(first, first)) {
        const isThere = last === 'visible';
        const expected = first === 'absent' ? (isThere ? 'created' : 'unmade') : isThere ? 'updated' : 'deleted';
        expect([actions, netChange(actions)]).toEqual([actions, expected]);
        netChanges.add(expected);
      }
    }
    expect(netChanges).toEqual(new Set(['created', 'unmade', 'updated', 'deleted']));
  });

  it('is a restore if the first change was a restore and the row exists', () => {
    const lists = [...histories('hidden', 'hidden')].filter(({ actions: [first] }) => first === 'restored');
    for (const { last, actions } of lists) {
      expect([actions, netChange(actions)]).toEqual([actions, last === 'visible' ? 'restored' : 'unrestored']);
    }
    expect(lists.length).toBeGreaterThan(10);
  });
});
