import { href } from '../../app/router.js';
import { PERIODS, type Filters } from './filters.js';

/** A new task for everything that the filters match, also what is not loaded. */
export function taskOf(filters: Filters, now = Date.now()): string {
  const { state, type, error, listenerId, owner, period, since, until } = filters;
  const length = PERIODS[period as keyof typeof PERIODS];
  return href('/tasks/new', {
    kind: state === 'due' || state === 'held' ? 'discard' : 'recover',
    states: state === 'succeeded' ? null : state,
    types: type,
    ...{ error, listenerId, owner, until },
    since: length === undefined ? since : new Date(now - length).toISOString(),
  });
}
