import { BadRequestError } from '../errors.js';
import { textOf } from '../foreign-text.js';
import type { JsonObject } from '../json.js';
import { invalidValue } from '../show.js';
import { canBeStored } from '../store/database/can-be-stored.js';
import { AUDIT_ACTIONS, type AuditAction, type AuditFilterRow, type AuditRow } from '../store/system/audit.js';

/** One change in the audit log. */
export interface AuditItem {
  readonly at: Date;
  /**
   * Who made the change: the actor of an API call, `cli:` and the user of a command, or the name given to `withActor()`. `null`: the
   * application.
   */
  readonly actor: string | null;
  readonly action: AuditAction;
  /** The id of the changed object, or an owner; `null` if the change concerns the whole instance. */
  readonly target: string | null;
  /** Details of the change. They never contain a secret, a URL or a payload. */
  readonly details: JsonObject | null;
}

/** Selects changes for a list. */
export interface AuditFilter {
  action?: AuditAction;
  target?: string;
  actor?: string;
  /** Only changes made at this time or later. */
  since?: Date;
  /** Only changes made before this time. */
  until?: Date;
}

/** @throws BadRequestError `INVALID_TIME`, `INVALID_ACTION` */
export function auditFilterRow({ action, target, actor, since, until }: AuditFilter): AuditFilterRow {
  if (action !== undefined && !AUDIT_ACTIONS.includes(action)) {
    throw new BadRequestError('INVALID_ACTION', invalidValue('action', action, AUDIT_ACTIONS.join(', ')));
  }
  const [from, to] = [timeOf(since, 'since'), timeOf(until, 'until')];
  return {
    ...(action === undefined ? {} : { action }),
    ...(target === undefined ? {} : { target: searchable(target) }),
    ...(actor === undefined ? {} : { actor: searchable(actor) }),
    ...(from === undefined ? {} : { since: from }),
    ...(to === undefined ? {} : { until: to }),
  };
}

/** Replaces a search text that no row can contain, because some databases would refuse it. */
function searchable(text: string): string {
  return canBeStored(textOf(text)) ? textOf(text) : '\ufffd';
}

/** @throws BadRequestError `INVALID_TIME` */
export function timeOf(given: Date | undefined, key: string): number | undefined {
  if (given === undefined) return undefined;
  const at = given instanceof Date ? given.getTime() : Number.NaN;
  if (Number.isSafeInteger(at)) return at;
  throw new BadRequestError('INVALID_TIME', invalidValue(key, given, 'a valid Date'));
}

export function toAuditItem({ createdAt, actor, action, target, details }: AuditRow): AuditItem {
  return {
    at: new Date(Number(createdAt)),
    actor,
    action: action as AuditAction,
    target,
    details: details === null ? null : (JSON.parse(details) as JsonObject),
  };
}
