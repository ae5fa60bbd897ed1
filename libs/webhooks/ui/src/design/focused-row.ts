import { useLayoutEffect, useState, type FocusEvent, type RefObject } from 'react';

interface FocusedRow {
  /** Its place in the list; `null` if no row has the focus. */
  readonly index: number | null;
  readonly onFocus: (event: FocusEvent) => void;
  readonly onBlur: (event: FocusEvent) => void;
}

interface Place {
  readonly id: string;
  readonly index: number;
}

/**
 * Where the reader of a table is with the keyboard. The table keeps this row in the document wherever the list is scrolled to, because an
 * element that leaves the document loses the focus. If the row leaves the list, the row that takes its place gets the focus.
 */
export function useFocusedRow<Row>(
  body: RefObject<HTMLElement | null>,
  rows: readonly Row[],
  idOf: (row: Row) => string,
): FocusedRow {
  const [place, setPlace] = useState<Place | null>(null);
  const index = place && placeIn(rows, place, idOf);
  const row = index === null ? undefined : rows[index];
  const id = row === undefined ? null : idOf(row);
  useLayoutEffect(() => {
    if (place === null || index === null || id === null) return;
    if (place.id !== id) linkOf(body.current, index)?.focus({ preventScroll: true });
    if (place.id !== id || place.index !== index) setPlace({ id, index });
  }, [place, index, id]);
  return {
    index,
    onFocus: ({ target }) => {
      const at = indexOf(target);
      const focused = at === null ? undefined : rows[at];
      if (at !== null && focused !== undefined) setPlace({ id: idOf(focused), index: at });
    },
    onBlur: ({ relatedTarget }) => {
      // A window that is left keeps its focus, and React tells of no row that leaves the document.
      if (!body.current?.contains(relatedTarget ?? document.activeElement)) setPlace(null);
    },
  };
}

/** Where the row is now. If it has left the list: where it was. */
function placeIn<Row>(rows: readonly Row[], { id, index }: Place, idOf: (row: Row) => string): number | null {
  const same = rows[index];
  if (same !== undefined && idOf(same) === id) return index;
  const found = rows.findIndex((row) => idOf(row) === id);
  return found >= 0 ? found : rows.length === 0 ? null : Math.min(index, rows.length - 1);
}

/** The rows begin at 2 in `aria-rowindex`: the head is the first one. */
const FIRST_ROW = 2;

function indexOf(element: Element): number | null {
  const row = element.closest('[aria-rowindex]');
  return row === null ? null : Number(row.getAttribute('aria-rowindex')) - FIRST_ROW;
}

/** The link of a row, which opens what the row is about. */
export function linkOf(table: Element | null, index: number): HTMLElement | null {
  return table?.querySelector<HTMLElement>(`[aria-rowindex="${index + FIRST_ROW}"] .row-link`) ?? null;
}
