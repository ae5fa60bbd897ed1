import { Item } from '../conformance-entities.js';
import { item, threeItems, TWO } from './items.js';
import type { Difference, Operation, OperationContext } from './operation.js';
import { created, deleted, updated } from './expected-events.js';

/** Each database quotes the column names of raw SQL differently. */
function quoted({ dataSource }: OperationContext, name: string): string {
  return dataSource.driver.escape(name);
}

const rawSql: Difference = {
  why: 'It makes no event: capture does not see raw SQL.',
  expects: [],
};

export const RAW: readonly Operation[] = [
  {
    name: 'raw INSERT',
    run: ({ manager }) => manager.query("INSERT INTO conf_item (id, name) VALUES (1, 'item 1')"),
    expects: [created('item', item(1))],
    rows: [[Item, [{ id: 1 }]]],
    differs: { orm: rawSql },
  },
  {
    name: 'raw UPDATE',
    given: threeItems,
    run: ({ manager }) => manager.query("UPDATE conf_item SET name = 'changed' WHERE id = 2"),
    expects: [updated('item', item(2, { name: 'changed', amount: 5 }), { name: 'item 2' })],
    differs: { orm: rawSql },
  },
  {
    name: 'raw DELETE',
    given: threeItems,
    run: (context) => context.manager.query(`DELETE FROM ${quoted(context, 'conf_item')} WHERE id = 2`),
    expects: [deleted('item', TWO)],
    differs: { orm: rawSql },
  },
];
