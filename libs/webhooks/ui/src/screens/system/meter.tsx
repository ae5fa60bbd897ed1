import type { ReactNode } from 'react';

interface MeterProps {
  readonly done: number;
  readonly of: number;
  readonly tone?: 'green' | 'red' | 'gray' | undefined;
  readonly isWide?: boolean;
}

/** A filled line beside a text that says the same. */
export function Meter({ done, of, tone, isWide = false }: MeterProps): ReactNode {
  const part = of <= 0 ? 0 : Math.min(1, done / of);
  return (
    <span className={['meter', tone, isWide && 'wide'].filter(Boolean).join(' ')} aria-hidden="true">
      <span style={{ width: `${part * 100}%` }} />
    </span>
  );
}
