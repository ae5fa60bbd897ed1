import { useLayoutEffect, useRef, type RefObject } from 'react';

/** Puts one of the entries of a row into the middle, where the row is wider than its place. The page itself is not scrolled. */
export function useInMiddle<Row extends HTMLElement>(selector: string, entry: unknown): RefObject<Row | null> {
  const row = useRef<Row>(null);
  useLayoutEffect(() => {
    const { current } = row;
    const chosen = current?.querySelector<HTMLElement>(selector);
    if (!current || !chosen) return;
    const [place, at] = [current.getBoundingClientRect(), chosen.getBoundingClientRect()];
    current.scrollBy({ left: at.left + at.width / 2 - place.left - place.width / 2, behavior: 'instant' });
  }, [selector, entry]);
  return row;
}
