import { useId, type ReactNode } from 'react';
import { t } from '../words/words.js';
import { useInMiddle } from './scroll-aside.js';

export type Options = readonly (readonly [value: string, text: string])[];

interface ChoiceProps {
  readonly label: string;
  readonly value: string;
  readonly options: Options;
  readonly onChange: (value: string) => void;
}

/** One of a list, or none. The browser's own list: it works with every keyboard, screen reader and phone. */
export function Choice({ label, value, options, onChange }: ChoiceProps): ReactNode {
  const isKnown = value === '' || options.some(([one]) => one === value);
  return (
    <select
      className={value === '' ? 'select' : 'select is-set'}
      aria-label={label}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    >
      <option value="">{t('filter.any', { what: label })}</option>
      {!isKnown && <option value={value}>{value}</option>}
      {options.map(([one, text]) => (
        <option key={one} value={one}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** A few values side by side. */
export function Segments({ label, value, options, onChange }: ChoiceProps): ReactNode {
  const group = useInMiddle<HTMLDivElement>('[aria-pressed="true"]', value);
  return (
    <div ref={group} className="segments" role="group" aria-label={label}>
      {options.map(([one, text]) => (
        <button key={one} type="button" aria-pressed={one === value} onClick={() => onChange(one)}>
          {text}
        </button>
      ))}
    </div>
  );
}

interface SearchProps {
  readonly label: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
}

/** `/` puts the cursor here. */
export function Search({ label, value, onChange }: SearchProps): ReactNode {
  const id = useId();
  return (
    <div className="search">
      <svg
        width="16"
        height="16"
        viewBox="0 0 24 24"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.9"
        aria-hidden="true"
      >
        <path d="M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4" />
      </svg>
      <input
        id={id}
        type="search"
        className="input"
        data-search
        aria-label={label}
        placeholder={label}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}
