import type { ReactNode } from 'react';
import { count, t } from '../words/words.js';
import { Button } from './button.js';
import type { Selection } from './selection.js';

interface BulkBarProps<Row> {
  readonly selection: Selection<Row>;
  /** How many rows are done; `null` while nothing runs. */
  readonly progress: number | null;
  /** The buttons that do something with the rows. */
  readonly children: ReactNode;
}

/** How many rows are selected, how many of them are done, and what one can do with them. */
export function BulkBar<Row>({ selection: { rows, clear }, progress, children }: BulkBarProps<Row>): ReactNode {
  return (
    <>
      <span className="row" aria-live="polite">
        <span className="strong">{count('select.count', rows.length)}</span>
        {progress !== null && <span>{t('select.working', { done: progress, all: rows.length })}</span>}
      </span>
      <span className="row wrap">
        {children}
        <Button isSmall kind="ghost" icon="cross" disabled={progress !== null} onClick={clear}>
          {t('select.clear')}
        </Button>
      </span>
    </>
  );
}
