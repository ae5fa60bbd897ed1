import type { Draft } from './draft.js';

/** What the parts of the form share. */
export interface FieldsProps {
  readonly draft: Draft;
  readonly change: (changes: Partial<Draft>) => void;
  /** Why the API refused a property. */
  readonly errorOf: (property: string) => string | undefined;
}
