import { useState, type ReactNode } from 'react';
import { Badge } from '../../design/badge.js';
import { Chip } from '../../design/chip.js';
import { Search, Segments } from '../../design/choice.js';
import { Check } from '../../design/field.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { groupsOf } from '../../session/event-types.js';
import type { EventType } from '../../session/shapes.js';
import type { Loaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';

interface TypePickerProps {
  readonly loaded: Loaded<readonly EventType[]>;
  readonly events: readonly string[];
  readonly onChange: (events: readonly string[]) => void;
}

/** Types by their groups. `order.*` stands for each type of an entity, also for later ones. */
export function TypePicker({ loaded, events, onChange }: TypePickerProps): ReactNode {
  const types = loaded.data ?? [];
  const [text, setText] = useState('');
  const isAll = events.includes('*');
  const shown = types.filter((type) => matches(type, text));
  const known = new Set(types.flatMap(({ type }) => [type, patternOf(type)]));
  const others = events.filter((one) => one !== '*' && !known.has(one));
  const set = (name: string, isOn: boolean) => {
    const kept = events.filter((one) => one !== name && !(isOn && name.endsWith('.*') && patternOf(one) === name));
    onChange(isOn ? [...kept, name] : kept);
  };
  return (
    <div className="stack">
      <Segments
        label={t('listener.events')}
        value={isAll ? 'all' : 'some'}
        options={[
          ['some', t('editor.types.some')],
          ['all', t('types.all')],
        ]}
        onChange={(value) => onChange(value === 'all' ? ['*'] : [])}
      />
      {isAll ? (
        <p className="secondary">{t('editor.types.all.text')}</p>
      ) : (
        <>
          <Search label={t('catalogue.search')} value={text} onChange={setText} />
          {others.length > 0 && (
            <div className="row wrap">
              {others.map((one) => (
                <Chip key={one} onRemove={() => set(one, false)}>
                  {one}
                </Chip>
              ))}
            </div>
          )}
          {shown.length === 0 ? (
            <NoTypes loaded={loaded} />
          ) : (
            <div className="type-groups" role="group" aria-label={t('listener.events')}>
              {groupsOf(shown).map(([name, items]) => (
                <Group key={name} name={name} types={items} events={events} set={set} />
              ))}
            </div>
          )}
        </>
      )}
    </div>
  );
}

/** Why there is no type to choose. */
function NoTypes({ loaded: { data, error, reload } }: Pick<TypePickerProps, 'loaded'>): ReactNode {
  if (data !== undefined) return <Empty icon="search" title={t('catalogue.none')} />;
  return error === undefined ? <Skeleton lines={5} /> : <Failed error={error} retry={reload} />;
}

interface GroupProps {
  readonly name: string;
  readonly types: readonly EventType[];
  readonly events: readonly string[];
  readonly set: (name: string, isOn: boolean) => void;
}

function Group({ name, types, events, set }: GroupProps): ReactNode {
  const patterns = [...new Set(types.map(({ type }) => patternOf(type)))];
  return (
    <fieldset className="type-group">
      <legend>{name}</legend>
      {patterns.map((pattern) => {
        const ofPattern = types.filter(({ type }) => patternOf(type) === pattern);
        const isWhole = events.includes(pattern);
        return (
          <div key={pattern} className={ofPattern.length > 1 || isWhole ? 'type-list nested' : 'type-list'}>
            {(ofPattern.length > 1 || isWhole) && (
              <Check isChecked={isWhole} onChange={(isOn) => set(pattern, isOn)}>
                <span className="strong">{pattern}</span> <span className="secondary">{t('editor.types.pattern')}</span>
              </Check>
            )}
            {ofPattern.map(({ type, description, deprecated }) => (
              <Check
                key={type}
                isChecked={isWhole || events.includes(type)}
                isDisabled={isWhole}
                onChange={(isOn) => set(type, isOn)}
              >
                <span className="mono">{type}</span>{' '}
                {deprecated && <Badge tone="amber">{t('catalogue.deprecated')}</Badge>}
                {description !== null && <span className="secondary type-text">{description}</span>}
              </Check>
            ))}
          </div>
        );
      })}
    </fieldset>
  );
}

/** `order.*` of `order.updated`. */
function patternOf(type: string): string {
  return type.replace(/\.[^.]*$/, '.*');
}

function matches({ type, title, description }: EventType, text: string): boolean {
  return `${type} ${title ?? ''} ${description ?? ''}`.toLowerCase().includes(text.trim().toLowerCase());
}

/** The types that patterns choose. */
export function chosenTypes(types: readonly EventType[], events: readonly string[]): readonly EventType[] {
  return types.filter(({ type }) => events.some((one) => one === '*' || one === type || one === patternOf(type)));
}
