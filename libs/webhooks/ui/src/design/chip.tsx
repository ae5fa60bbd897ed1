import type { ReactNode } from 'react';
import { t } from '../words/words.js';
import { Icon } from './icon.js';

/** A filter that is set, with a button that removes it. */
export function Chip({
  children,
  onRemove,
}: {
  readonly children: ReactNode;
  readonly onRemove: () => void;
}): ReactNode {
  return (
    <span className="chip">
      <span className="truncate">{children}</span>
      <button type="button" aria-label={t('action.remove-filter')} onClick={onRemove}>
        <Icon name="cross" size={14} />
      </button>
    </span>
  );
}
