import { useDeferredValue, useState, type ReactNode } from 'react';
import { Search } from '../../design/choice.js';
import { SelectField } from '../../design/field.js';
import { api } from '../../session/api.js';
import { rememberListeners, useListenerName } from '../../session/listener-names.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { titleOf } from './listener-name.js';

const SHOWN = 100;

/** A list to choose from, and a search field if there are more listeners than the list shows. */
export function ListenerField({
  value,
  isRequired,
  type = '',
  onChange,
}: {
  readonly value: string;
  readonly isRequired: boolean;
  /** Only listeners that receive this event type. */
  readonly type?: string;
  readonly onChange: (value: string) => void;
}): ReactNode {
  const [text, setText] = useState('');
  const q = useDeferredValue(text.trim());
  const { data } = useLoaded(`listeners to choose ${q} ${type}`, async (signal) => {
    const query = { limit: SHOWN, ...(q !== '' && { q }), ...(type !== '' && { type }) };
    const page = await api.listListeners({ query }, { signal });
    rememberListeners(page.items);
    return page;
  });
  const chosen = useTitle(value);
  const listeners = data?.items ?? [];
  const hasSearch = q !== '' || (data?.next ?? null) !== null;
  return (
    <div className="stack tight">
      <SelectField
        label={t('task.listener')}
        value={value}
        isRequired={isRequired}
        options={[
          ['', isRequired ? t('task.listener.choose') : t('task.listener.all')],
          ...(value === '' || listeners.some(({ id }) => id === value) ? [] : [[value, chosen] as const]),
          ...listeners.map((one) => [one.id, titleOf(one)] as const),
        ]}
        onChange={onChange}
      />
      {hasSearch && <Search label={t('listeners.search')} value={text} onChange={setText} />}
    </div>
  );
}

/** The title of the chosen listener, which the list may not contain. */
function useTitle(id: string): string {
  const listener = useListenerName(id);
  return listener ? titleOf(listener) : id;
}
