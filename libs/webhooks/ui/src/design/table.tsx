import type { ReactNode } from 'react';

interface TableColumn<Row> {
  readonly name: string;
  /** For a column of buttons: only screen readers get its name. */
  readonly isUnnamed?: boolean;
  /** Of the heading and the cells. */
  readonly className?: string;
  readonly cell: (row: Row) => ReactNode;
}

/** Columns; `false`: one that the reader may not see. */
export type TableColumns<Row> = readonly (TableColumn<Row> | false)[];

interface TableProps<Row> {
  /** Names the place, which scrolls if the table is wider. */
  readonly label: string;
  readonly columns: TableColumns<Row>;
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row, index: number) => React.Key;
}

/** A table of a few rows. For long lists there is `GridTable`. */
export function Table<Row>({ label, columns, rows, keyOf }: TableProps<Row>): ReactNode {
  const shown = columns.filter((column) => column !== false);
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={label}>
      <table className="table rows">
        <thead>
          <tr>
            {shown.map(({ name, isUnnamed = false, className }) => (
              <th key={name} scope="col" className={className}>
                {isUnnamed ? <span className="visually-hidden">{name}</span> : name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={keyOf(row, index)}>
              {shown.map(({ name, className, cell }) => (
                <td key={name} className={className}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
