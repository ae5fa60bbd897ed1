import { textOf } from '../foreign-text.js';
import { invalidCursor, readCursor, writeCursor, type PagePosition } from '../store/database/page.js';
import { inShard } from './merge-answers.js';

/** How far a reader has read the list of each shard: a cursor of this list, or `null` if it has read all of it. */
export type ShardCursors = Readonly<Record<string, string | null>>;

/** A page of the list of one shard. */
export interface ShardPage {
  readonly shard: string;
  /** The cursor with which the page was read; `undefined`: it is the first page. */
  readonly from: string | undefined;
  readonly items: readonly object[];
  /** The position of each item; `undefined` for items that have no row yet. These items come first. */
  readonly positions: readonly (PagePosition | undefined)[];
  readonly next: string | null;
}

/**
 * One page of the lists of several shards, newest first. Each item is on exactly one page, however many rows are written meanwhile,
 * because the cursor has a position in each list.
 *
 * A list may have more rows after its page. So the merged page ends where the first such page ends: older items of other shards follow on the
 * next page, and may be preceded by rows that are not read yet.
 */
export function mergePages(pages: readonly ShardPage[], limit: number): { items: object[]; cursors: ShardCursors } {
  const taken = new Map<ShardPage, number>();
  const items: object[] = [];
  for (const page of pages) {
    const unstored = page.positions.filter((position) => !position).length;
    items.push(...page.items.slice(0, unstored).map((item) => inShard(page.shard, item)));
    taken.set(page, unstored);
  }
  for (let count = 0; count < limit; count++) {
    const newest = newestOf(taken);
    if (!newest) break;
    const index = taken.get(newest) as number;
    if (index === newest.items.length) break;
    items.push(inShard(newest.shard, newest.items[index] as object));
    taken.set(newest, index + 1);
  }
  return { items, cursors: Object.fromEntries([...taken].map(([page, count]) => [page.shard, cursorOf(page, count)])) };
}

/** The page with the newest next item. A page without more items counts with its end, if its list has more rows. */
function newestOf(taken: ReadonlyMap<ShardPage, number>): ShardPage | undefined {
  let newest: { page: ShardPage; at: number } | undefined;
  for (const [page, count] of taken) {
    const position = page.positions[count] ?? (page.next === null ? undefined : readCursor(page.next));
    if (position && (!newest || position.at > newest.at)) newest = { page, at: position.at };
  }
  return newest?.page;
}

/** The cursor after the first items of a page. */
function cursorOf({ from, items, positions, next }: ShardPage, count: number): string | null {
  if (count === items.length) return next;
  const last = positions[count - 1];
  if (last) return writeCursor(last);
  if (from !== undefined) return from;
  // Before the first item, but after rows that are written later: these are newer than the first merged page.
  const { at, seq } = positions[count] as PagePosition;
  return writeCursor({ at, seq: String(BigInt(seq) + 1n) });
}

/** The cursor of a merged list. `null` if every shard is read to its end. */
export function writeShardCursors(cursors: ShardCursors): string | null {
  if (Object.values(cursors).every((cursor) => cursor === null)) return null;
  return Buffer.from(JSON.stringify(cursors)).toString('base64url');
}

/** @throws BadRequestError `INVALID_CURSOR` */
export function readShardCursors(text: string, shards: readonly string[]): ShardCursors {
  const cursors = parsed(Buffer.from(textOf(text), 'base64url').toString());
  const isKnown = ([shard, cursor]: [string, unknown]) =>
    shards.includes(shard) && (cursor === null || typeof cursor === 'string');
  if (typeof cursors !== 'object' || cursors === null || !Object.entries(cursors).every(isKnown)) throw invalidCursor();
  return cursors as ShardCursors;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
