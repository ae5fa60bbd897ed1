import { MAX_CONDITIONS, OPERATORS, type Operator } from '../../../../src/routing/operators.js';
import { useId, useRef, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Icon } from '../../design/icon.js';
import { t } from '../../words/words.js';
import { isYesNo, newRow, type Kind, type Row } from './filter.js';

/** A property of the payload. */
export interface Property {
  readonly path: string;
  readonly kind: Kind;
  readonly values: readonly string[];
  readonly description: string | undefined;
}

interface FilterBuilderProps {
  readonly rows: readonly Row[];
  readonly properties: readonly Property[];
  readonly onChange: (rows: readonly Row[]) => void;
  readonly error: string | undefined;
}

/** Conditions on properties. All of them must hold. */
export function FilterBuilder({ rows, properties, onChange, error }: FilterBuilderProps): ReactNode {
  const list = useId();
  const added = useRef(0);
  const change = (key: number, changes: Partial<Row>) =>
    onChange(rows.map((row) => (row.key === key ? { ...row, ...changes } : row)));
  const add = () => {
    const row = newRow();
    added.current = row.key;
    onChange([...rows, row]);
  };
  return (
    <div className="stack tight">
      <datalist id={list}>
        {properties.map(({ path, description }) => (
          <option key={path} value={path}>
            {description}
          </option>
        ))}
      </datalist>
      {rows.length === 0 && <p className="muted">{t('listener.no-filter')}</p>}
      {rows.map((row, index) => (
        <Condition
          key={row.key}
          row={row}
          number={index + 1}
          list={list}
          property={properties.find(({ path }) => path === row.path.trim())}
          isNew={row.key === added.current}
          change={(changes) => change(row.key, changes)}
          remove={() => onChange(rows.filter(({ key }) => key !== row.key))}
        />
      ))}
      {error !== undefined && (
        <div className="field-error" role="alert">
          <Icon name="alert" size={14} />
          <span className="break">{error}</span>
        </div>
      )}
      <div>
        <Button icon="plus" isSmall onClick={add} disabled={rows.length >= MAX_CONDITIONS}>
          {t('editor.filter.add')}
        </Button>
      </div>
    </div>
  );
}

interface ConditionProps {
  readonly row: Row;
  readonly number: number;
  readonly list: string;
  readonly property: Property | undefined;
  readonly isNew: boolean;
  readonly change: (changes: Partial<Row>) => void;
  readonly remove: () => void;
}

function Condition({ row, number, list, property, isNew, change, remove }: ConditionProps): ReactNode {
  const { path, operator, text } = row;
  return (
    <div className="condition" role="group" aria-label={t('editor.filter.condition', { number })}>
      <input
        className="input mono"
        aria-label={t('editor.filter.property')}
        placeholder={t('editor.filter.property')}
        autoComplete="off"
        spellCheck={false}
        // Whoever adds a condition wants to write it.
        autoFocus={isNew}
        list={list}
        value={path}
        onChange={(event) => change({ path: event.target.value })}
      />
      <select
        className="select"
        aria-label={t('editor.filter.operator')}
        value={operator}
        onChange={(event) => {
          const next = event.target.value as Operator;
          change({ operator: next, text: isYesNo(next) === isYesNo(operator) ? text : isYesNo(next) ? 'true' : '' });
        }}
      >
        {OPERATORS.map((one) => (
          <option key={one} value={one}>
            {t(`operator.${one}`)}
          </option>
        ))}
      </select>
      <Value row={row} property={property} change={change} />
      <Button
        kind="ghost"
        icon="trash"
        aria-label={t('editor.filter.remove', { number })}
        title={t('editor.filter.remove', { number })}
        onClick={remove}
      />
    </div>
  );
}

function Value({ row, property, change }: Pick<ConditionProps, 'row' | 'property' | 'change'>): ReactNode {
  const { operator, text } = row;
  const values = useId();
  const label = t('editor.filter.value');
  if (isYesNo(operator) || (property?.kind === 'yes-no' && operator !== 'in')) {
    return (
      <select
        className="select"
        aria-label={label}
        value={text === 'false' ? 'false' : 'true'}
        onChange={(event) => change({ text: event.target.value })}
      >
        <option value="true">{t('editor.yes')}</option>
        <option value="false">{t('editor.no')}</option>
      </select>
    );
  }
  return (
    <>
      <input
        className="input mono"
        aria-label={label}
        placeholder={operator === 'in' ? t('editor.filter.values') : label}
        autoComplete="off"
        spellCheck={false}
        list={values}
        value={text}
        onChange={(event) => change({ text: event.target.value })}
      />
      <datalist id={values}>
        {property?.values.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </>
  );
}
