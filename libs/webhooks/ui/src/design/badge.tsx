import type { ReactNode } from 'react';

export type Tone = 'green' | 'red' | 'amber' | 'blue' | 'gray';

/** A state: a colour, and always a word. */
export function Badge({ tone, children }: { readonly tone: Tone; readonly children: ReactNode }): ReactNode {
  return <span className={`badge ${tone}`}>{children}</span>;
}

/** A label without a state. */
export function Tag({ children }: { readonly children: ReactNode }): ReactNode {
  return <span className="badge plain">{children}</span>;
}
