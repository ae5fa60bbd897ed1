import type { ReactNode } from 'react';

/** A text up to this length is shown as a whole. */
const MAX_LENGTH = 60;

/** A text of any length in a cell: a long one takes one line until the reader opens it. */
export function Long({ text }: { readonly text: string }): ReactNode {
  if (text.length <= MAX_LENGTH) return text;
  return (
    <details className="long">
      <summary>{text}</summary>
    </details>
  );
}
