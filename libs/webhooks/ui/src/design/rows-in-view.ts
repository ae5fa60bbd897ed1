import { useEffect, useState, type RefObject } from 'react';

/** Rows above and below the view, so that a turn of the wheel does not show an empty place. */
const BEYOND = 8;
/** Until the first row is measured, the height of the view is not known. */
const FIRST_ROWS = 30;
const NARROW = window.matchMedia('(max-width: 720px)');
const ROW_PX = 43;

export interface RowsInView {
  readonly first: number;
  /** The row after the last one. */
  readonly end: number;
  readonly rowPx: number;
}

/**
 * Which rows of a table are in view, or nearly. All rows have the same height, so their places need no memory and no measuring: a table of
 * 100,000 rows costs as much as one of 100.
 *
 * @param narrowRowPx the height of a row on narrow screens, as `--narrow-row` in tables.css
 */
export function useRowsInView(body: RefObject<HTMLElement | null>, count: number, narrowRowPx: number): RowsInView {
  const rowPx = () => (NARROW.matches ? narrowRowPx : ROW_PX);
  const [view, setView] = useState({ first: 0, end: FIRST_ROWS, rowPx: rowPx() });
  useEffect(() => {
    const element = body.current;
    if (element === null) return undefined;
    const look = () => {
      const { scrollTop, clientHeight } = element;
      const px = rowPx();
      const first = Math.max(0, Math.floor(scrollTop / px) - BEYOND);
      const end = Math.ceil((scrollTop + clientHeight) / px) + BEYOND;
      setView((before) =>
        before.first === first && before.end === end && before.rowPx === px ? before : { first, end, rowPx: px },
      );
    };
    look();
    const resize = new ResizeObserver(look);
    resize.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    NARROW.addEventListener('change', look);
    return () => {
      resize.disconnect();
      element.removeEventListener('scroll', look);
      NARROW.removeEventListener('change', look);
    };
  }, [body, narrowRowPx]);
  const end = Math.min(view.end, count);
  return { ...view, end, first: Math.min(view.first, end) };
}
