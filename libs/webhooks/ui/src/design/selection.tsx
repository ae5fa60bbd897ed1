import { useMemo, useState, type ReactNode } from 'react';
import { t } from '../words/words.js';

/** Which rows of a list are chosen. */
export interface Selection<Row> {
  readonly rows: readonly Row[];
  readonly has: (id: string) => boolean;
  readonly toggle: (id: string) => void;
  readonly toggleAll: () => void;
  readonly clear: () => void;
  /** Selects these rows, and no others. */
  readonly choose: (ids: readonly string[]) => void;
  /** Names a row for people who do not see it. */
  readonly nameOf: (row: Row) => string;
}

/** Rows that leave the list leave the selection, too. */
export function useSelection<Row>(
  rows: readonly Row[],
  idOf: (row: Row) => string,
  nameOf: (row: Row) => string,
): Selection<Row> {
  const [ids, setIds] = useState<ReadonlySet<string>>(new Set());
  const chosen = useMemo(() => (ids.size === 0 ? [] : rows.filter((row) => ids.has(idOf(row)))), [rows, ids]);
  return {
    rows: chosen,
    has: (id) => ids.has(id),
    toggle: (id) =>
      setIds((before) => {
        const next = new Set(before);
        if (!next.delete(id)) next.add(id);
        return next;
      }),
    toggleAll: () => setIds(chosen.length === rows.length ? new Set() : new Set(rows.map(idOf))),
    clear: () => setIds(new Set()),
    choose: (chosenIds) => setIds(new Set(chosenIds)),
    nameOf,
  };
}

interface SelectBoxProps {
  readonly label: string;
  readonly isChecked: boolean;
  /** Some rows are chosen, and some are not. */
  readonly isMixed?: boolean;
  readonly onChange: () => void;
}

export function SelectBox({ label, isChecked, isMixed = false, onChange }: SelectBoxProps): ReactNode {
  return (
    <label className="select-box">
      <input
        type="checkbox"
        aria-label={label}
        checked={isChecked}
        ref={(input) => {
          if (input) input.indeterminate = isMixed;
        }}
        onChange={onChange}
      />
    </label>
  );
}

export function SelectAll<Row>({
  selection,
  all,
}: {
  readonly selection: Selection<Row>;
  readonly all: number;
}): ReactNode {
  const { length } = selection.rows;
  return (
    <SelectBox
      label={t('select.all')}
      isChecked={length === all}
      isMixed={length > 0 && length < all}
      onChange={selection.toggleAll}
    />
  );
}
