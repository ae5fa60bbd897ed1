import { oneLine } from '../../foreign-text.js';
import type { Terminal } from './terminal.js';

/** A cell. `null` is shown as `-`, a date in ISO 8601. */
export type Cell = string | number | boolean | Date | null | undefined;

/**
 * Prints a result: with `json` the value as JSON, otherwise its rows, in columns. Every command prints through this function.
 *
 * @param value what `--json` prints
 * @param rows the same result as lines of cells. The first row of `header` names the columns
 */
export function print(
  { out }: Terminal,
  value: unknown,
  { json, header, rows }: { json: boolean | undefined; header?: readonly string[]; rows: readonly (readonly Cell[])[] },
): void {
  if (json) out(JSON.stringify(value, null, 2));
  else for (const line of columns(header && rows.length > 0 ? [header, ...rows] : rows)) out(line);
}

interface PrintedPage<Row> {
  readonly json: boolean | undefined;
  readonly header: readonly string[];
  readonly rowOf: (row: Row) => readonly Cell[];
  /** What the rows are, such as `deliveries`. */
  readonly name: string;
}

/** Prints a page of a list, and below it how to get the next page. */
export function printPage<Row>(
  terminal: Terminal,
  page: { readonly items: readonly Row[]; readonly next: string | null },
  { json, header, rowOf, name }: PrintedPage<Row>,
): void {
  print(terminal, page, { json, header, rows: page.items.map(rowOf) });
  if (!json && !page.items.length) terminal.err(`There are no such ${name}.`);
  if (!json && page.next !== null) terminal.err(`There are more: --cursor ${page.next}`);
}

/** Aligns the cells of rows. The last cell of a row may be of any length. */
function columns(rows: readonly (readonly Cell[])[]): string[] {
  const cells = rows.map((row) => row.map(textOfCell));
  const widths: number[] = [];
  for (const row of cells) {
    for (const [n, text] of row.slice(0, -1).entries()) widths[n] = Math.max(widths[n] ?? 0, text.length);
  }
  return cells.map((row) =>
    row
      .map((text, n) => (n === row.length - 1 ? text : text.padEnd(widths[n] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

function textOfCell(cell: Cell): string {
  if (cell === null || cell === undefined) return '-';
  // Names and URLs are foreign text: a terminal would execute their control characters.
  return oneLine(cell instanceof Date ? cell.toISOString() : String(cell));
}

/** 1204 -> `1,204`. */
export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

/** `1 listener`, `2 listeners`. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : several}`;
}
