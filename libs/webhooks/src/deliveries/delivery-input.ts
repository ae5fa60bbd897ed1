import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import { invalidValue } from '../show.js';
import type { OwnerScope } from '../store/listeners/listener-rows.js';
import type { ClaimedDelivery } from '../store/queue/claimed-delivery.js';
import type { DeliveryFilterRow } from '../store/queue/delivery-rows.js';
import { DELIVERY_STATES, type DeliveryFilter, type StatusClass } from './delivery.js';
import { milliseconds } from './milliseconds.js';

/** The checked filter. @throws BadRequestError `INVALID_STATE`, `INVALID_STATUS`, `INVALID_TIME` */
export function filterRow(
  { since, until, state, status, ...filter }: DeliveryFilter,
  scope: OwnerScope,
): DeliveryFilterRow {
  if (state !== undefined && !DELIVERY_STATES.includes(state)) {
    const allowed = DELIVERY_STATES.map((known) => `'${known}'`).join(', ');
    throw new BadRequestError('INVALID_STATE', invalidValue('state', state, allowed));
  }
  const row: DeliveryFilterRow = { scope };
  for (const key of ['owner', 'listenerId', 'eventId', 'type', 'errorCode'] as const) {
    if (filter[key] !== undefined) row[key] = textOf(filter[key]);
  }
  if (state !== undefined) row.state = state;
  if (status !== undefined) row.status = statusRange(status);
  if (since !== undefined) row.since = milliseconds(since, 'since');
  if (until !== undefined) row.until = milliseconds(until, 'until');
  return row;
}

/** Whether a filter selects a delivery that this process is sending. */
export function isSelected(
  { listener, type, owner, routedAt }: ClaimedDelivery,
  { scope, owner: ofOwner, listenerId, type: ofType, state, since, until }: DeliveryFilterRow,
): boolean {
  return (
    (scope ?? owner) === owner &&
    (ofOwner ?? owner) === owner &&
    (listenerId ?? listener.id) === listener.id &&
    (ofType ?? type) === type &&
    (state ?? 'leased') === 'leased' &&
    routedAt >= (since ?? routedAt) &&
    routedAt < (until ?? Infinity)
  );
}

/** The checked states. @throws BadRequestError `INVALID_STATE` */
export function statesOf<S extends string>(given: S | readonly S[], allowed: readonly S[]): readonly S[] {
  const states = [...new Set(Array.isArray(given) ? (given as readonly S[]) : [given as S])];
  if (states.length && states.every((state) => allowed.includes(state))) return states;
  const names = allowed.map((state) => `'${state}'`).join(', ');
  throw new BadRequestError('INVALID_STATE', invalidValue('state', given, `${names}, or a list of both`));
}

/** @throws BadRequestError `INVALID_STATUS` */
function statusRange(status: number | StatusClass): readonly [min: number, max: number] {
  const [, digit] = /^([1-5])xx$/.exec(textOf(status)) ?? [];
  if (digit !== undefined) return [Number(digit) * 100, Number(digit) * 100 + 99];
  if (Number.isInteger(status) && Number(status) >= 100 && Number(status) <= 599)
    return [Number(status), Number(status)];
  throw new BadRequestError(
    'INVALID_STATUS',
    invalidValue('status', status, "a number from 100 to 599, or '1xx' to '5xx'"),
  );
}
