import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Card } from '../../design/page.js';
import { Failed, messageOf, Skeleton } from '../../design/states.js';
import type { Rows } from '../../session/use-rows.js';
import { t } from '../../words/words.js';

interface ListedCardProps<Row> {
  readonly title: string;
  readonly list: Rows<Row>;
  readonly empty: ReactNode;
  /** A sentence above the rows. */
  readonly note?: string;
  /** One `<li>`. */
  readonly row: (row: Row) => ReactNode;
}

/** A short list beside the content of an event, in each of its states. */
export function ListedCard<Row>({ title, list, empty, note, row }: ListedCardProps<Row>): ReactNode {
  const { rows, next, error, isLoading, isLoadingMore, moreError, reload, loadMore, retryMore } = list;
  // A page may be empty although another one follows.
  const isEmpty = rows.length === 0 && next === null;
  return (
    <Card title={title} isFlush>
      {isLoading || error !== undefined ? (
        <div className="card-body">{error === undefined ? <Skeleton /> : <Failed error={error} retry={reload} />}</div>
      ) : isEmpty ? (
        empty
      ) : (
        <>
          {note !== undefined && <p className="secondary card-note">{note}</p>}
          <ul className="list">{rows.map(row)}</ul>
        </>
      )}
      {next !== null && (
        <div className="card-note row wrap">
          <Button
            isSmall
            icon={moreError === undefined ? 'down' : 'refresh'}
            isBusy={isLoadingMore}
            onClick={moreError === undefined ? loadMore : retryMore}
          >
            {t(moreError === undefined ? 'action.show-more' : 'action.retry')}
          </Button>
          {moreError !== undefined && <span className="secondary">{messageOf(moreError)}</span>}
        </div>
      )}
    </Card>
  );
}
