import type { CommittedChange } from './committed-changes.js';
import { valueDifferences, type EventDifference } from './compare-events.js';
import type { StoredEvent } from './stored-events.js';

const INDENT = '\n     ';

/**
 * The message of a failed expectation. For each difference, the message has the row, the column, the expected value and
 * the stored value.
 */
export function describeDifferences(differences: readonly EventDifference[]): string {
  const lines = differences.map((difference, n) => `  ${n + 1}. ${describe(difference)}`);
  const count = differences.length === 1 ? '1 event does' : `${differences.length} events do`;
  return `${count} not match what the database committed:\n${lines.join('\n')}`;
}

function describe(difference: EventDifference): string {
  switch (difference.kind) {
    case 'missing': {
      const { expected, change } = difference;
      const { data, previous } = expected;
      const values = `Expected ${JSON.stringify({ data, ...(previous && { previous }) })}.`;
      return `missing: ${expected.type} of ${rowOf(change)}. The database committed an ${change.op.toUpperCase()}, and no event is stored.${INDENT}${values}`;
    }
    case 'extra': {
      const { stored } = difference;
      return `extra: ${titleOf(stored)}. No committed change explains it.${INDENT}Stored ${valuesOf(stored)}.`;
    }
    case 'different': {
      const { expected, stored, change } = difference;
      const values = valueDifferences(expected, stored).map(
        (one) => `${one.path}: expected ${textOf(one.expected)}, stored ${textOf(one.stored)}`,
      );
      return `different: ${titleOf(stored)} of ${rowOf(change)}, after an ${change.op.toUpperCase()}.${INDENT}${values.join(INDENT)}`;
    }
  }
}

function titleOf({ type, id }: StoredEvent): string {
  return `${type} (${id})`;
}

function rowOf({ definition, key }: CommittedChange): string {
  return `row ${key} of ${definition.metadata.tablePath}`;
}

function valuesOf({ data, previous }: StoredEvent): string {
  return JSON.stringify({ data, ...(previous && { previous }) });
}

function textOf(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
