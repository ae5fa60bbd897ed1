import { useDeferredValue, useId, useState, type ReactNode } from 'react';
import { Search } from '../../design/choice.js';
import { api } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { rememberListeners, useListenerName } from '../../session/listener-names.js';
import { useMe } from '../../session/session.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t, type Key } from '../../words/words.js';
import { ERRORS } from '../deliveries/delivery-filters.js';
import { errorName } from '../deliveries/delivery-state.js';
import { titleOf } from '../listeners/listener-name.js';
import { KINDS, type Field, type TaskKind, type Values } from './task-kinds.js';

interface SelectionFieldsProps {
  readonly kind: TaskKind;
  readonly values: Values;
  readonly onChange: (field: Field, value: string) => void;
}

export function SelectionFields({ kind, values, onChange }: SelectionFieldsProps): ReactNode {
  const { kind: role } = useMe();
  const types = useEventTypes();
  const { fields, states } = KINDS[kind];
  const has = (field: Field) => fields.includes(field);
  const text = (field: Field, label: string, hint?: string) => (
    <TextField label={label} hint={hint} value={values[field] ?? ''} onChange={(value) => onChange(field, value)} />
  );
  return (
    <div className="fields">
      {has('listenerId') && (
        <ListenerField
          isRequired={kind === 'replay'}
          value={values.listenerId ?? ''}
          onChange={(value) => onChange('listenerId', value)}
        />
      )}
      {has('since') && (
        <TimeField
          label={t('task.from')}
          isRequired={kind !== 'discard'}
          value={values.since ?? ''}
          onChange={(value) => onChange('since', value)}
        />
      )}
      {has('until') && (
        <TimeField
          label={t('task.to')}
          hint={t('task.to.hint')}
          value={values.until ?? ''}
          onChange={(value) => onChange('until', value)}
        />
      )}
      {states.length > 0 && (
        <StatesField states={states} value={values.states ?? ''} onChange={(value) => onChange('states', value)} />
      )}
      {has('types') && (
        <TextField
          label={t('task.types')}
          hint={t('task.types.hint')}
          value={values.types ?? ''}
          suggestions={types.map(({ type }) => type)}
          onChange={(value) => onChange('types', value)}
        />
      )}
      {has('error') && (
        <SelectField
          label={t('task.error-code')}
          value={values.error ?? ''}
          options={[['', t('task.error-code.any')], ...ERRORS.map((one) => [one, errorName(one)] as const)]}
          onChange={(value) => onChange('error', value)}
        />
      )}
      {has('eventId') && text('eventId', t('task.event'))}
      {has('owner') && role === 'operator' && text('owner', t('task.owner'), t('task.owner.hint'))}
      {has('entity') && text('entity', t('task.entity'))}
      {has('entityId') && text('entityId', t('task.entity-id'))}
      {has('ratePerSecond') && (
        <TextField
          label={t('task.speed')}
          hint={t('task.speed.hint')}
          value={values.ratePerSecond ?? ''}
          isNumber
          onChange={(value) => onChange('ratePerSecond', value)}
        />
      )}
    </div>
  );
}

interface FieldProps {
  readonly label: string;
  readonly hint?: string | undefined;
  readonly value: string;
  readonly isRequired?: boolean;
  readonly onChange: (value: string) => void;
}

function Labelled({
  id,
  label,
  hint,
  children,
}: Pick<FieldProps, 'label' | 'hint'> & { readonly id: string; readonly children: ReactNode }): ReactNode {
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children}
      {hint !== undefined && (
        <span id={`${id}-hint`} className="hint">
          {hint}
        </span>
      )}
    </div>
  );
}

interface TextFieldProps extends FieldProps {
  readonly isNumber?: boolean;
  readonly suggestions?: readonly string[];
}

function TextField({ label, hint, value, onChange, isNumber = false, suggestions = [] }: TextFieldProps): ReactNode {
  const id = useId();
  return (
    <Labelled id={id} label={label} hint={hint}>
      <input
        id={id}
        className="input"
        autoComplete="off"
        {...(isNumber ? { type: 'number', min: 1, max: 10_000, step: 1 } : { type: 'text', maxLength: 2000 })}
        {...(hint !== undefined && { 'aria-describedby': `${id}-hint` })}
        {...(suggestions.length > 0 && { list: `${id}-list` })}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
      {suggestions.length > 0 && (
        <datalist id={`${id}-list`}>
          {suggestions.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
    </Labelled>
  );
}

function TimeField({ label, hint, value, isRequired = false, onChange }: FieldProps): ReactNode {
  const id = useId();
  return (
    <Labelled id={id} label={label} hint={hint}>
      <input
        id={id}
        type="datetime-local"
        className="input"
        required={isRequired}
        {...(hint !== undefined && { 'aria-describedby': `${id}-hint` })}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </Labelled>
  );
}

interface SelectFieldProps extends FieldProps {
  readonly options: readonly (readonly [value: string, text: string])[];
}

function SelectField({ label, value, options, isRequired = false, onChange }: SelectFieldProps): ReactNode {
  const id = useId();
  return (
    <Labelled id={id} label={label}>
      <select
        id={id}
        className="select"
        value={value}
        required={isRequired}
        onChange={(event) => onChange(event.target.value)}
      >
        {options.map(([one, text]) => (
          <option key={one} value={one}>
            {text}
          </option>
        ))}
      </select>
    </Labelled>
  );
}

/** Boxes for the states that the kind may select. None is the default of the kind. */
function StatesField({
  states,
  value,
  onChange,
}: {
  readonly states: readonly string[];
  readonly value: string;
  readonly onChange: (value: string) => void;
}): ReactNode {
  const chosen = value.split(',').filter(Boolean);
  return (
    <fieldset className="field boxes">
      <legend className="label">{t('task.states')}</legend>
      <div className="row wrap">
        {states.map((state) => (
          <label key={state} className="check">
            <input
              type="checkbox"
              checked={chosen.includes(state)}
              onChange={(event) => {
                const others = chosen.filter((one) => one !== state);
                onChange((event.target.checked ? [...others, state] : others).join(','));
              }}
            />
            {t(`state.${state}` as Key)}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

const SHOWN = 100;

/** A list to choose from, and a search field if there are more listeners than the list shows. */
function ListenerField({
  value,
  isRequired,
  onChange,
}: {
  readonly value: string;
  readonly isRequired: boolean;
  readonly onChange: (value: string) => void;
}): ReactNode {
  const [text, setText] = useState('');
  const q = useDeferredValue(text.trim());
  const { data } = useLoaded(`listeners to choose ${q}`, async (signal) => {
    const page = await api.listListeners({ query: { limit: SHOWN, ...(q !== '' && { q }) } }, { signal });
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
