import { useVirtualizer } from '@tanstack/react-virtual';
import { memo, useEffect, useRef, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { SelectAll, SelectBox, type Selection } from './selection.js';

const ROW_PX = 43;
/** On narrow screens a row has two lines: see tables.css. */
const NARROW_ROW_PX = 74;
const NARROW = '(max-width: 720px)';
/** Load more when so many rows are left. */
const AHEAD = 10;

interface Column<Row> {
  readonly name: string;
  /** As in `grid-template-columns`. */
  readonly width: string;
  /** Left out on narrow screens. */
  readonly isOnlyWide?: boolean;
  readonly cell: (row: Row) => ReactNode;
}

export type Columns<Row> = readonly Column<Row>[];

interface GridTableProps<Row> {
  readonly label: string;
  readonly columns: Columns<Row>;
  readonly rows: readonly Row[];
  readonly idOf: (row: Row) => string;
  readonly hasMore?: boolean;
  readonly loadMore?: () => void;
  /** With it, each row begins with a box. */
  readonly selection?: Selection<Row> | undefined;
}

/** A table of any length: only the rows in view are in the document. */
export function GridTable<Row>(props: GridTableProps<Row>): ReactNode {
  const { label, columns, rows, idOf, hasMore = false, loadMore, selection } = props;
  const body = useRef<HTMLDivElement>(null);
  const height = window.matchMedia(NARROW).matches ? NARROW_ROW_PX : ROW_PX;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => body.current,
    estimateSize: () => height,
    overscan: 8,
    getItemKey: (index) => idOf(rows[index] as Row),
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && last >= rows.length - AHEAD) loadMore?.();
  }, [hasMore, last, rows.length, loadMore]);
  const widths = {
    '--columns': [...(selection ? ['24px'] : []), ...columns.map(({ width }) => width)].join(' '),
  } as React.CSSProperties;
  return (
    <div
      className="grid-table"
      role="table"
      aria-label={label}
      aria-rowcount={hasMore ? -1 : rows.length + 1}
      style={widths}
    >
      <div role="rowgroup">
        <div className="grid-head" role="row" aria-rowindex={1}>
          {selection && (
            <span role="columnheader">
              <SelectAll selection={selection} all={rows.length} />
            </span>
          )}
          {columns.map(({ name }) => (
            <span key={name} role="columnheader" className="truncate">
              {name}
            </span>
          ))}
        </div>
      </div>
      <div className="grid-body" ref={body} role="presentation">
        <div className="grid-space" role="rowgroup" style={{ height: virtual.getTotalSize() }}>
          {items.map(({ index, key, start }) => (
            <GridRow
              key={key}
              id={String(key)}
              row={rows[index] as Row}
              columns={columns}
              selection={selection}
              index={index}
              start={start}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

interface GridRowProps<Row> {
  readonly id: string;
  readonly row: Row;
  readonly columns: Columns<Row>;
  readonly selection: Selection<Row> | undefined;
  readonly index: number;
  readonly start: number;
}

/** While the table is scrolled, only the rows that come into view are drawn. */
const GridRow = memo(function GridRow<Row>({ id, row, columns, selection, index, start }: GridRowProps<Row>) {
  return (
    <div
      className={selection?.has(id) ? 'grid-row is-chosen' : 'grid-row'}
      role="row"
      aria-rowindex={index + 2}
      style={{ transform: `translateY(${start}px)` }}
    >
      {selection && (
        <div role="cell" className="grid-check">
          <SelectBox
            label={t('select.row', { name: selection.nameOf(row) })}
            isChecked={selection.has(id)}
            onChange={() => selection.toggle(id)}
          />
        </div>
      )}
      {columns.map(({ name, cell, isOnlyWide = false }) => (
        <div key={name} role="cell" className={isOnlyWide ? 'truncate only-wide' : 'truncate'}>
          {cell(row)}
        </div>
      ))}
    </div>
  );
}) as <Row>(props: GridRowProps<Row>) => ReactNode;
