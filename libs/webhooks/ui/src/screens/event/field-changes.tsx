import type { ReactNode } from 'react';
import { visible } from '../../design/code.js';
import { Card } from '../../design/page.js';
import { count, t } from '../../words/words.js';

interface FieldChangesProps {
  readonly data: Readonly<Record<string, unknown>>;
  readonly previous: Readonly<Record<string, unknown>>;
}

/** What the update changed: the old value beside the new one. */
export function FieldChanges({ data, previous }: FieldChangesProps): ReactNode {
  const names = Object.keys(previous);
  return (
    <Card
      title={t('event.changes')}
      actions={<span className="muted">{count('event.changed', names.length)}</span>}
      isFlush
    >
      <div className="table-scroll" tabIndex={0} role="region" aria-label={t('event.changes')}>
        <table className="table changes">
          <thead>
            <tr>
              <th scope="col">{t('event.field')}</th>
              <th scope="col">{t('event.before')}</th>
              <th scope="col">{t('event.after')}</th>
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name}>
                <th scope="row" className="mono">
                  {visible(name)}
                </th>
                <td>
                  <Value value={previous[name]} kind="old" />
                </td>
                <td>
                  <Value value={data[name]} kind="new" />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Value({ value, kind }: { readonly value: unknown; readonly kind: 'old' | 'new' }): ReactNode {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const shown = <span className="break">{text === undefined ? '–' : visible(text)}</span>;
  return kind === 'old' ? <del className="value old mono">{shown}</del> : <ins className="value new mono">{shown}</ins>;
}
