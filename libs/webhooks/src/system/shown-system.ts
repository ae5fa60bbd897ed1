import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { ProcessRow } from '../store/system/processes.js';
import type { SendingState } from '../store/system/sending.js';
import type { DispatcherProcess, Sending, SendingPause } from './system-overview.js';

/** The state of the switch in the form that services return. */
export function toSending({ paused, reason, since, actor }: SendingState): Sending {
  return { paused, reason, since: dateOrNull(since), actor };
}

/** The pause in the form that services of this scope return; `null` if sending is not paused. */
export function toPause({ paused, reason, since, actor }: SendingState, scope: OwnerScope): SendingPause | null {
  if (!paused || since === null) return null;
  return scope === undefined
    ? { since: new Date(since), reason, actor }
    : { since: new Date(since), reason: null, actor: null };
}

/** A process in the form that services return. */
export function toProcess({ startedAt, seenAt, ...process }: ProcessRow): DispatcherProcess {
  return { ...process, startedAt: new Date(startedAt), seenAt: new Date(seenAt) };
}

export function dateOrNull(at: number | null): Date | null {
  return at === null ? null : new Date(at);
}
