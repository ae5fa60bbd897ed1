import { eventRow, type EventRow } from '../../store/outbox/event-rows.js';
import type { Json, JsonObject } from '../../json.js';
import type { PayloadLimits } from '../../events/payload.js';
import type { Audience, WebhookEvent } from '../../events/webhook-event.js';
import { tupleHash } from '../../hash.js';
import { newId } from '../../ids.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import { setPath } from '../../entities/set-path.js';
import type { Before, RowChange } from './row-change.js';
import type { EntityAction } from '../../entities/webhook.decorator.js';

interface ChangeEvent {
  action: EntityAction;
  audience: Audience;
  owner: string | null;
  data: JsonObject;
  previous?: JsonObject;
}

/** The events of one change: none, one, or two if the owner of the row has changed. */
export function eventsOf(change: RowChange, limits: PayloadLimits): EventRow[] {
  const { action, image } = change;
  const { definition } = change.plan;
  if (!image || image === 'gone' || !definition.wants(action, image)) return [];
  const now = definition.ownerOf(image);
  const values = definition.fields.map((field) => definition.valueOf(field, image));
  const data: JsonObject = {};
  definition.fields.forEach(({ parts }, n) => setPath(data, parts, values[n] ?? null));
  if (!change.before) return [row(change, image, { action, ...now, data }, limits)];

  const { before } = change;
  if (before.owner.owner !== now.owner || before.owner.audience !== now.audience) {
    return ownerChanged(change, image, before, { action, ...now, data }, limits);
  }
  if (action !== 'updated') return [row(change, image, { action, ...now, data }, limits)];
  const previous = previousOf(definition, before, values);
  return previous ? [row(change, image, { action, ...now, data, previous }, limits)] : [];
}

/**
 * The row has a new owner. The event of the new owner has no `previous`, because the new owner must not see the old values. The old owner
 * gets a 'deleted' event with the id alone, because the old owner must not see the new values. Both events belong to one update, so they
 * share the order key of that update.
 */
function ownerChanged(
  change: RowChange,
  image: RowImage,
  before: Before,
  changeEvent: ChangeEvent,
  limits: PayloadLimits,
): EventRow[] {
  const { definition } = change.plan;
  const events = [row(change, image, changeEvent, limits)];
  if (before.owner.owner !== null && definition.actions.has('deleted')) {
    const data: JsonObject = {};
    for (const field of definition.fields) {
      if (definition.identity.includes(field.parts[0] ?? '')) {
        setPath(data, field.parts, definition.valueOf(field, image));
      }
    }
    events.push(
      row(change, image, { action: 'deleted', audience: 'owner_only', owner: before.owner.owner, data }, limits),
    );
  }
  return events;
}

/** The old values of the changed fields, or `undefined` if no exposed field has changed. */
function previousOf(definition: EntityDefinition, before: Before, now: readonly Json[]): JsonObject | undefined {
  const previous: JsonObject = {};
  let changed = false;
  for (const [n, field] of definition.fields.entries()) {
    const old = before.values.get(field.path);
    if (old === undefined || sameJson(old, now[n] ?? null)) continue;
    setPath(previous, field.parts, old);
    changed ||= before.touched.has(field.path) && !definition.ignored.has(field);
  }
  return changed ? previous : undefined;
}

/** Compares JSON objects by content, because a database may return the keys of a json column in another order. */
function sameJson(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((item, i) => sameJson(item, b[i] ?? null))
    );
  }
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => key in b && sameJson(a[key] as Json, b[key] as Json))
  );
}

function row(change: RowChange, { key }: RowImage, changeEvent: ChangeEvent, limits: PayloadLimits): EventRow {
  const { at } = change;
  const { definition } = change.plan;
  const event: WebhookEvent = {
    id: newId('evt', at),
    type: definition.typeOf(changeEvent.action),
    timestamp: new Date(at).toISOString(),
    data: changeEvent.data,
    ...(changeEvent.previous ? { previous: changeEvent.previous } : {}),
    owner: changeEvent.owner,
    context: change.cause?.context ?? null,
  };
  const source = {
    event,
    superTypes: definition.superTypesOf(changeEvent.action),
    audience: changeEvent.audience,
    orderKey: tupleHash('entity', definition.metadata.tableName, key),
    isOrdered: definition.options.ordering === 'entity',
    dedupeKey: null,
    depth: change.cause?.depth ?? 0,
    version: definition.version,
    createdAt: at,
  };
  return eventRow(source, definition.identity, limits);
}
