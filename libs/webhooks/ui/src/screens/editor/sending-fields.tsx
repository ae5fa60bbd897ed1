import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Check, Field, SelectField, TextField } from '../../design/field.js';
import { useMe } from '../../session/session.js';
import { t } from '../../words/words.js';
import { newHeader, type Draft, type Header } from './draft.js';
import type { FieldsProps } from './fields-props.js';
import { handshakes } from './handshakes.js';

/** How requests are sent: order, format, rate, headers, signatures, handshake. */
export function SendingFields(props: FieldsProps): ReactNode {
  const { draft, change, errorOf } = props;
  const me = useMe();
  const formats = withCurrent(me.formats, [draft.format]);
  return (
    <div className="stack">
      <div className="field-grid">
        <SelectField
          label={t('listener.order')}
          hint={t('editor.order.hint')}
          value={draft.ordering}
          options={[
            ['none', t('listener.order.none')],
            ['entity', t('listener.order.entity')],
          ]}
          onChange={(value) => change({ ordering: value as Draft['ordering'] })}
        />
        <SelectField
          label={t('listener.format')}
          error={errorOf('format')}
          value={draft.format}
          options={formats.map((one) => [one, one])}
          onChange={(format) => change({ format })}
        />
        <SelectField
          label={t('editor.handshake')}
          hint={t('editor.handshake.hint')}
          error={errorOf('handshake')}
          value={draft.handshake}
          options={[...(draft.handshake === '' ? [['', t('editor.handshake.default')] as const] : []), ...handshakes()]}
          onChange={(value) => change({ handshake: value as Draft['handshake'] })}
        />
      </div>
      <Check isChecked={draft.sequence} onChange={(sequence) => change({ sequence })}>
        {t('editor.sequence')}
      </Check>
      <Rate {...props} />
      <Schemes {...props} />
      <Headers headers={draft.headers} onChange={(headers) => change({ headers })} error={errorOf('headers')} />
    </div>
  );
}

function withCurrent(known: readonly string[], current: readonly string[]): readonly string[] {
  return [...new Set([...known, ...current])];
}

function Rate({ draft, change, errorOf }: FieldsProps): ReactNode {
  return (
    <div className="stack tight">
      <Check isChecked={draft.isLimited} onChange={(isLimited) => change({ isLimited })}>
        {t('editor.rate')}
      </Check>
      {draft.isLimited && (
        <div className="field-grid narrow">
          <TextField
            label={t('editor.rate.limit')}
            type="number"
            min={1}
            required
            error={errorOf('rateLimit')}
            value={draft.limit}
            onChange={(limit) => change({ limit })}
          />
          <TextField
            label={t('editor.rate.seconds')}
            type="number"
            min={1}
            required
            value={draft.perSeconds}
            onChange={(perSeconds) => change({ perSeconds })}
          />
        </div>
      )}
    </div>
  );
}

function Schemes({ draft: { schemes }, change, errorOf }: FieldsProps): ReactNode {
  const all = withCurrent(useMe().schemes, schemes);
  if (all.length < 2) return null;
  const error = errorOf('schemes');
  return (
    <fieldset className="plain-set">
      <legend>{t('listener.schemes')}</legend>
      <div className="row wrap loose">
        {all.map((name) => (
          <Check
            key={name}
            isChecked={schemes.includes(name)}
            onChange={(isOn) => change({ schemes: isOn ? [...schemes, name] : schemes.filter((one) => one !== name) })}
          >
            <span className="mono">{name}</span>
          </Check>
        ))}
      </div>
      {error !== undefined && <div className="field-error">{error}</div>}
    </fieldset>
  );
}

interface HeadersProps {
  readonly headers: readonly Header[];
  readonly onChange: (headers: readonly Header[]) => void;
  readonly error: string | undefined;
}

function Headers({ headers, onChange, error }: HeadersProps): ReactNode {
  const change = (key: number, changes: Partial<Header>) =>
    onChange(headers.map((one) => (one.key === key ? { ...one, ...changes } : one)));
  return (
    <fieldset className="plain-set">
      <legend>{t('listener.headers')}</legend>
      <div className="stack tight">
        <p className="hint">{t('editor.headers.hint')}</p>
        {headers.map(({ key, name, value }, index) => (
          <div key={key} className="header-row">
            <input
              className="input mono"
              aria-label={t('editor.headers.name', { number: index + 1 })}
              placeholder="x-source"
              autoComplete="off"
              value={name}
              onChange={(event) => change(key, { name: event.target.value })}
            />
            <input
              className="input mono"
              aria-label={t('editor.headers.value', { number: index + 1 })}
              autoComplete="off"
              value={value}
              onChange={(event) => change(key, { value: event.target.value })}
            />
            <Button
              kind="ghost"
              icon="trash"
              aria-label={t('editor.headers.remove', { number: index + 1 })}
              onClick={() => onChange(headers.filter((one) => one.key !== key))}
            />
          </div>
        ))}
        {error !== undefined && <div className="field-error">{error}</div>}
        <div>
          <Button icon="plus" isSmall onClick={() => onChange([...headers, newHeader()])}>
            {t('editor.headers.add')}
          </Button>
        </div>
      </div>
    </fieldset>
  );
}

/** The owner of a new listener, for operators. */
export function OwnerField({ draft, change, errorOf }: FieldsProps): ReactNode {
  return (
    <Field label={t('column.owner')} hint={t('editor.owner.hint')} error={errorOf('owner')}>
      {(ids) => (
        <input
          {...ids}
          className="input"
          autoComplete="off"
          maxLength={255}
          value={draft.owner}
          onChange={(event) => change({ owner: event.target.value })}
        />
      )}
    </Field>
  );
}
