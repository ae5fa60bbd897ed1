import { InvalidListenerError } from '../listener-errors.js';
import type { CreateListenerInput, ListenerReferences, Where } from './listener.js';

/** Properties that only the application may set. Errors of owner-bound services do not list them. */
export const REFERENCES: readonly (keyof ListenerReferences)[] = ['externalId', 'metadata'];
export const CREATED_BY_APPLICATION: readonly (keyof CreateListenerInput)[] = [
  ...REFERENCES,
  ...(['owner', 'entity', 'property', 'value', 'privateKey'] as const),
];

/** Checks rules that the types cannot ensure, because the input may be a JSON body. */
export function assertInput(input: unknown): void {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new InvalidListenerError(
      'INVALID_LISTENER',
      'The listener is not valid. Allowed: an object with the properties of a listener.',
    );
  }
  // JSON can contain keys such as `__proto__`. Code that copies or reads objects would confuse such keys with inherited
  // members.
  const inherited = Object.keys(input).find((key) => key in Object.prototype);
  if (inherited === undefined) return;
  throw new InvalidListenerError(
    'INVALID_LISTENER',
    `The listener is not valid: there is no property '${inherited}'.`,
    {
      details: { properties: [inherited] },
    },
  );
}

export function shortForm(property: string | undefined, value: unknown, where: Where | undefined): Where {
  if (where !== undefined) {
    throw new InvalidListenerError(
      'INVALID_LISTENER',
      '`where` cannot be combined with `property` and `value`. Give only one of the two forms.',
    );
  }
  // In this older form, a missing property means every row. A value without a property is probably a mistake.
  if (property === undefined || property === '') {
    if (value === undefined || value === null || value === '') return {};
    throw new InvalidListenerError(
      'INVALID_FILTER',
      '`property` is missing, but `value` is given. To match every row, leave out both.',
    );
  }
  if (value === undefined) {
    throw new InvalidListenerError(
      'INVALID_FILTER',
      '`value` is missing, but `property` is given. To match every row, leave out both.',
    );
  }
  return { [property]: value as Where[string] };
}

export function withoutUndefined<T extends object>(input: T): T {
  return Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined)) as T;
}
