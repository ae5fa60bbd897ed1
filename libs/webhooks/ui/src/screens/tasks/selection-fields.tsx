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

/** The fields of a kind, in their order. */
export function SelectionFields({ kind, values, onChange }: SelectionFieldsProps): ReactNode {
  const { kind: role } = useMe();
  const { fields, states } = KINDS[kind];
  const has = (field: Field) => fields.includes(field);
  const props = (field: Field) => ({
    value: values[field] ?? '',
    onChange: (value: string) => onChange(field, value),
  });
  return (
    <div className="fields">
      {has('listenerId') && <ListenerField isRequired={kind === 'replay'} {...props('listenerId')} />}
      {has('since') && (
        <TextField type="datetime-local" label={t('task.from')} required={kind !== 'discard'} {...props('since')} />
      )}
      {has('until') && (
        <TextField type="datetime-local" label={t('task.to')} hint={t('task.to.hint')} {...props('until')} />
      )}
      {states.length > 0 && <StatesField states={states} {...props('states')} />}
      {has('types') && <TypesField {...props('types')} />}
      {has('error') && (
        <SelectField
          label={t('task.error-code')}
          options={[['', t('task.error-code.any')], ...ERRORS.map((one) => [one, errorName(one)] as const)]}
          {...props('error')}
        />
      )}
      {has('eventId') && <TextField label={t('task.event')} maxLength={MAX_TEXT} {...props('eventId')} />}
      {has('owner') && role === 'operator' && (
        <TextField label={t('task.owner')} hint={t('task.owner.hint')} maxLength={MAX_TEXT} {...props('owner')} />
      )}
      {has('entity') && <TextField label={t('task.entity')} maxLength={MAX_TEXT} {...props('entity')} />}
      {has('entityId') && <TextField label={t('task.entity-id')} maxLength={MAX_TEXT} {...props('entityId')} />}
      {has('ratePerSecond') && <RateField {...props('ratePerSecond')} />}
    </div>
  );
}

interface FieldProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
}

/** Several types with commas between them. The browser offers the known ones. */
function TypesField(props: FieldProps): ReactNode {
  const types = useEventTypes();
  const list = useId();
  return (
    <div>
      <TextField list={list} label={t('task.types')} hint={t('task.types.hint')} maxLength={MAX_TEXT} {...props} />
      <datalist id={list}>
        {types.map(({ type }) => (
          <option key={type} value={type} />
        ))}
      </datalist>
    </div>
  );
}

function RateField(props: FieldProps): ReactNode {
  return (
    <TextField
      type="number"
      min={1}
      max={10_000}
      step={1}
      label={t('task.speed')}
      hint={t('task.speed.hint')}
      {...props}
    />
  );
}

/** Boxes for the states that the kind may select. None is the default of the kind. */
function StatesField({ states, value, onChange }: FieldProps & { readonly states: readonly string[] }): ReactNode {
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
