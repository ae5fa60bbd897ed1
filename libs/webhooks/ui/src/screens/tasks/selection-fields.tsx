import { useId, type ReactNode } from 'react';
import { SelectField, TextField } from '../../design/field.js';
import { useEventTypes } from '../../session/event-types.js';
import { useMe } from '../../session/session.js';
import { t, type Key } from '../../words/words.js';
import { ERRORS } from '../deliveries/delivery-filters.js';
import { errorName } from '../deliveries/delivery-state.js';
import { ListenerField } from '../listeners/listener-field.js';
import { KINDS, type Field, type TaskKind, type Values } from './task-kinds.js';

const MAX_TEXT = 2000;

interface SelectionFieldsProps {
  readonly kind: TaskKind;
  readonly values: Values;
  readonly onChange: (field: Field, value: string) => void;
}

export function SelectionFields({ kind, values, onChange }: SelectionFieldsProps): ReactNode {
  const { kind: role } = useMe();
  const types = useEventTypes();
  const typeList = useId();
  const { fields, states } = KINDS[kind];
  const has = (field: Field) => fields.includes(field);
  const text = (field: Field, label: string, hint?: string) => (
    <TextField
      label={label}
      hint={hint}
      maxLength={MAX_TEXT}
      value={values[field] ?? ''}
      onChange={(value) => onChange(field, value)}
    />
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
        <TextField
          type="datetime-local"
          label={t('task.from')}
          required={kind !== 'discard'}
          value={values.since ?? ''}
          onChange={(value) => onChange('since', value)}
        />
      )}
      {has('until') && (
        <TextField
          type="datetime-local"
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
        <div>
          <TextField
            list={typeList}
            label={t('task.types')}
            hint={t('task.types.hint')}
            maxLength={MAX_TEXT}
            value={values.types ?? ''}
            onChange={(value) => onChange('types', value)}
          />
          <datalist id={typeList}>
            {types.map(({ type }) => (
              <option key={type} value={type} />
            ))}
          </datalist>
        </div>
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
          type="number"
          min={1}
          max={10_000}
          step={1}
          label={t('task.speed')}
          hint={t('task.speed.hint')}
          value={values.ratePerSecond ?? ''}
          onChange={(value) => onChange('ratePerSecond', value)}
        />
      )}
    </div>
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
