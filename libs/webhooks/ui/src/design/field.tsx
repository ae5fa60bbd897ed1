import { useId, type ComponentProps, type ReactNode } from 'react';
import { Icon } from './icon.js';

interface FieldProps {
  readonly label: string;
  readonly hint?: ReactNode;
  /** Why the value was refused. */
  readonly error?: string | undefined;
}

interface Ids {
  readonly id: string;
  readonly 'aria-describedby'?: string;
  readonly 'aria-invalid'?: true;
}

/** A control with its label, its hint and its error. */
export function Field({
  label,
  hint,
  error,
  children,
}: FieldProps & { readonly children: (ids: Ids) => ReactNode }): ReactNode {
  const id = useId();
  const described = [hint !== undefined && `${id}-hint`, error !== undefined && `${id}-error`]
    .filter(Boolean)
    .join(' ');
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        ...(described && { 'aria-describedby': described }),
        ...(error !== undefined && { 'aria-invalid': true }),
      })}
      {hint !== undefined && (
        <div className="hint" id={`${id}-hint`}>
          {hint}
        </div>
      )}
      {error !== undefined && (
        <div className="field-error" id={`${id}-error`} role="alert">
          <Icon name="alert" size={14} />
          <span className="break">{error}</span>
        </div>
      )}
    </div>
  );
}

type TextProps = FieldProps &
  Omit<ComponentProps<'input'>, 'onChange' | 'value'> & {
    readonly value: string;
    readonly onChange: (value: string) => void;
    readonly isCode?: boolean;
  };

/** A line of text. */
export function TextField({ label, hint, error, value, onChange, isCode = false, ...rest }: TextProps): ReactNode {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => (
        <input
          type="text"
          autoComplete="off"
          spellCheck={false}
          {...rest}
          {...ids}
          className={isCode ? 'input mono' : 'input'}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      )}
    </Field>
  );
}

type AreaProps = FieldProps & {
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly placeholder?: string;
};

/** Some lines of text. */
export function AreaField({ label, hint, error, value, onChange, placeholder }: AreaProps): ReactNode {
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => (
        <textarea
          spellCheck={false}
          autoComplete="off"
          {...ids}
          {...(placeholder !== undefined && { placeholder })}
          className="input mono"
          rows={4}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        />
      )}
    </Field>
  );
}

type SelectProps = FieldProps & {
  readonly value: string;
  readonly options: readonly (readonly [value: string, text: string])[];
  readonly isRequired?: boolean;
  readonly onChange: (value: string) => void;
};

/** One of a few values. */
export function SelectField(props: SelectProps): ReactNode {
  const { label, hint, error, value, options, isRequired = false, onChange } = props;
  return (
    <Field label={label} hint={hint} error={error}>
      {(ids) => (
        <select
          {...ids}
          className="select"
          required={isRequired}
          value={value}
          onChange={(event) => onChange(event.target.value)}
        >
          {options.map(([one, text]) => (
            <option key={one} value={one}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface CheckProps {
  readonly isChecked: boolean;
  readonly onChange: (isChecked: boolean) => void;
  readonly isDisabled?: boolean;
  readonly children: ReactNode;
}

/** Yes or no. */
export function Check({ isChecked, onChange, isDisabled = false, children }: CheckProps): ReactNode {
  return (
    <label className="check">
      <input
        type="checkbox"
        checked={isChecked}
        disabled={isDisabled}
        onChange={(event) => onChange(event.target.checked)}
      />
      <span>{children}</span>
    </label>
  );
}
