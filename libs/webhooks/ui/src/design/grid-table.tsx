import { memo, useEffect, useRef, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { useFocusedRow } from './focused-row.js';
import { useRowsInView } from './rows-in-view.js';
import { SelectAll, SelectBox, type Selection } from './selection.js';

/** Load more when so many rows are left. */
const AHEAD = 10;
/** On narrow screens a row has two cells in a line. */
const ONE_LINE_PX = 52;
const TWO_LINES_PX = 74;

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

/** A table of any length: only the rows in view are in the document, and the row that has the focus. */
export function GridTable<Row>(props: GridTableProps<Row>): ReactNode {
  const { label, columns, rows, idOf, hasMore = false, loadMore, selection } = props;
  const body = useRef<HTMLDivElement>(null);
  const narrowRowPx = columns.filter(({ isOnlyWide }) => !isOnlyWide).length > 2 ? TWO_LINES_PX : ONE_LINE_PX;
  const { first, end, rowPx } = useRowsInView(body, rows.length, narrowRowPx);
  const focused = useFocusedRow(body, rows, idOf);
  const isNearEnd = end >= rows.length - AHEAD;
  useEffect(() => {
    if (hasMore && isNearEnd) loadMore?.();
  }, [hasMore, isNearEnd, rows, loadMore]);
  const widths = {
    '--columns': [...(selection ? ['24px'] : []), ...columns.map(({ width }) => width)].join(' '),
    '--narrow-row': `${narrowRowPx}px`,
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
      <div className="grid-body" ref={body} role="presentation" onFocus={focused.onFocus} onBlur={focused.onBlur}>
        <div className="grid-space" role="rowgroup" style={{ height: rows.length * rowPx }}>
          {drawn(first, end, focused.index, rows.length).map((index) => {
            const row = rows[index] as Row;
            const id = idOf(row);
            return (
              <GridRow
                key={id}
                {...{ id, row, columns, selection, index }}
                isChosen={selection?.has(id) ?? false}
                startPx={index * rowPx}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** The rows in view, and elsewhere the row that has the focus with the rows beside it, so that Tab, `j` and `k` go on from there. */
function drawn(first: number, end: number, focused: number | null, count: number): readonly number[] {
  const inView = Array.from({ length: end - first }, (_, place) => first + place);
  if (focused === null) return inView;
  const beside = [focused - 1, focused, focused + 1].filter((index) => index >= 0 && index < count);
  return [...beside.filter((index) => index < first), ...inView, ...beside.filter((index) => index >= end)];
}

interface GridRowProps<Row> {
  readonly id: string;
  readonly row: Row;
  readonly columns: Columns<Row>;
  readonly selection: Selection<Row> | undefined;
  readonly isChosen: boolean;
  readonly index: number;
  readonly startPx: number;
}

/** While the table is scrolled, only the rows that come into view are drawn. */
const GridRow = memo(function GridRow<Row>(props: GridRowProps<Row>) {
  const { id, row, columns, selection, isChosen, index, startPx } = props;
  return (
    <div
      className={isChosen ? 'grid-row is-chosen' : 'grid-row'}
      role="row"
      aria-rowindex={index + 2}
      style={{ transform: `translateY(${startPx}px)` }}
    >
      {selection && (
        <div role="cell" className="grid-check">
          <SelectBox
            label={t('select.row', { name: selection.nameOf(row) })}
            isChecked={isChosen}
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
