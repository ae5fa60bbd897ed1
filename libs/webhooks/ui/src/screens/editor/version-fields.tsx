import type { ReactNode } from 'react';
import { Check, SelectField } from '../../design/field.js';
import type { EventType, Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import type { FieldsProps } from './fields-props.js';
import { chosenTypes } from './type-picker.js';

interface VersionProps extends FieldsProps {
  readonly types: readonly EventType[];
  readonly before: Listener | null;
}

/** The versions of the chosen types. Without a type that has several versions, there is nothing to choose. */
export function VersionFields({ draft, change, errorOf, types, before }: VersionProps): ReactNode {
  const versioned = chosenTypes(types, draft.events).filter(({ versions }) => versions.length > 1);
  if (versioned.length === 0) return null;
  const kept = before === null || before.versions === 'latest' ? {} : before.versions;
  const error = errorOf('versions');
  return (
    <fieldset className="plain-set">
      <legend>{t('listener.versions')}</legend>
      <div className="stack tight">
        <p className="hint">{t('editor.versions.hint')}</p>
        <Check isChecked={draft.isLatest} onChange={(isLatest) => change({ isLatest })}>
          {t('listener.versions.latest')}
        </Check>
        {!draft.isLatest && (
          <div className="field-grid">
            {versioned.map(({ type, version, versions }) => {
              const current = draft.pins[type] ?? kept[type] ?? version;
              return (
                <SelectField
                  key={type}
                  label={type}
                  value={String(current)}
                  options={[...new Set([...versions, current])].map((one) => [String(one), String(one)])}
                  onChange={(value) => change({ pins: { ...draft.pins, [type]: Number(value) } })}
                />
              );
            })}
          </div>
        )}
        {error !== undefined && <div className="field-error">{error}</div>}
      </div>
    </fieldset>
  );
}
