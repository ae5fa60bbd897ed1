import { useEffect, useRef, type ReactNode } from 'react';
import type { Rows } from '../session/use-rows.js';
import { t } from '../words/words.js';
import { Button } from './button.js';
import { linkOf } from './focused-row.js';
import { GridTable, type Columns } from './grid-table.js';
import { Icon } from './icon.js';
import { Card } from './page.js';
import type { Selection } from './selection.js';
import { Failed, messageOf, Reference, Skeleton } from './states.js';

interface ListCardProps<Row> {
  readonly list: Rows<Row>;
  /** Grey lines while the first rows load. */
  readonly lines: number;
  /** What is shown of a list without rows. */
  readonly empty: ReactNode;
  /** The rows. */
  readonly children: ReactNode;
  /** Below the rows. */
  readonly foot?: ReactNode;
}

/** A list of the API in each of its states: loading, failed, empty, with rows, and with rows after which the next ones are missing. */
export function ListCard<Row>({ list, lines, empty, children, foot }: ListCardProps<Row>): ReactNode {
  const { rows, error, isLoading, reload } = list;
  if (rows.length === 0) {
    return (
      <Card>
        {error !== undefined ? <Failed error={error} retry={reload} /> : isLoading ? <Skeleton lines={lines} /> : empty}
      </Card>
    );
  }
  return (
    <Card isFlush>
      <Shown list={list}>{children}</Shown>
      {foot}
    </Card>
  );
}

/** The rows, and at their end why there are no more of them. */
function Shown<Row>({ list, children }: { readonly list: Rows<Row>; readonly children: ReactNode }): ReactNode {
  const { rows, moreError, isLoadingMore, retryMore } = list;
  const place = useRef<HTMLDivElement>(null);
  const retriedAt = useRef<number | null>(null);
  useEffect(() => {
    if (moreError !== undefined || retriedAt.current === null) return;
    // The button has gone. The reader goes on at the first row that it brought.
    linkOf(place.current, retriedAt.current)?.focus({ preventScroll: true });
    retriedAt.current = null;
  }, [moreError]);
  return (
    <div ref={place}>
      {children}
      {moreError !== undefined && (
        <div className="list-end" role="alert">
          <Icon name="alert" size={18} />
          <div className="grow">
            <div className="strong">{t('failure.more')}</div>
            <div className="row wrap">
              <span className="secondary">{messageOf(moreError)}</span>
              <Reference error={moreError} />
            </div>
          </div>
          <Button
            isSmall
            icon="refresh"
            isBusy={isLoadingMore}
            onClick={() => {
              retriedAt.current = rows.length;
              retryMore();
            }}
          >
            {t('action.retry')}
          </Button>
        </div>
      )}
    </div>
  );
}

interface ListTableProps<Row extends { readonly id: string }> {
  readonly list: Rows<Row>;
  readonly label: string;
  readonly columns: Columns<Row>;
  readonly lines: number;
  readonly empty: ReactNode;
  readonly foot?: ReactNode;
  /** With it, each row begins with a box. */
  readonly selection?: Selection<Row> | undefined;
}

/** A list of the API as a table that reads on while one scrolls. */
export function ListTable<Row extends { readonly id: string }>(props: ListTableProps<Row>): ReactNode {
  const { list, label, columns, lines, empty, foot, selection } = props;
  const { rows, next, loadMore } = list;
  return (
    <ListCard list={list} lines={lines} empty={empty} foot={foot}>
      <GridTable {...{ label, columns, rows, idOf, loadMore, selection }} hasMore={next !== null} />
    </ListCard>
  );
}

function idOf({ id }: { readonly id: string }): string {
  return id;
}
