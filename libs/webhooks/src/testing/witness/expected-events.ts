import type { EntityMetadata } from 'typeorm';
import type { ColumnMetadata } from '../../entities/canonical-value.js';
import type { EntityDefinition, RowImage } from '../../entities/entity-definition.js';
import type { OutField } from '../../entities/out-field.js';
import { setPath } from '../../entities/set-path.js';
import { exposureOf } from '../../entities/exposed-properties.js';
import { hiddenProperties, type EntityAction } from '../../entities/webhook.decorator.js';
import type { Json, JsonObject } from '../../json.js';
import type { Audience } from '../../events/webhook-event.js';
import type { CommittedChange } from './committed-changes.js';
import { sameJson } from './same-json.js';

/** The event that a committed change should make. */
export interface ExpectedEvent {
  readonly type: string;
  readonly audience: Audience;
  readonly owner: string | null;
  readonly data: JsonObject;
  readonly previous?: JsonObject;
}

/**
 * The events that some changes of one row may make together. Usually this is one change. With `coalesce`, these are all
 * changes of one transaction.
 *
 * @returns the possible lists of events, the usual list first
 */
export function expectedEvents(changes: readonly CommittedChange[]): readonly (readonly ExpectedEvent[])[] {
  const net = netChange(changes);
  if (!net) return [[]];
  const { definition } = net;
  const setsDeleteDate = net.action === 'restored' || (net.action === 'deleted' && net.isSoft);
  if (!setsDeleteDate || definition.capture === 'trigger') return [eventsOf(net)];
  // Through TypeORM, an update that sets or clears the delete date is `updated`, a soft delete is `deleted`, and a restore is `restored`. The
  // witness's triggers see the same change in both cases.
  return [eventsOf(net), eventsOf({ ...net, action: 'updated' })];
}

interface NetChange {
  readonly definition: EntityDefinition;
  readonly action: EntityAction;
  readonly isSoft: boolean;
  /** Whether several changes of a row are merged. The row may then have changed its owner before it was deleted. */
  readonly isMerged: boolean;
  readonly old: RowImage | null;
  readonly image: RowImage;
}

/** `none`: the row does not exist. `deleted`: the row exists, and is soft-deleted. */
type Presence = 'none' | 'live' | 'deleted';

function netChange(changes: readonly CommittedChange[]): NetChange | null {
  const [first] = changes;
  const last = changes.at(-1);
  if (!first || !last) return null;
  const { definition } = last;
  const [from, to] = [presenceOf(definition, first.old), presenceOf(definition, last.now)];
  const isRestored = changes.some((one) => actionOf(one) === 'restored');
  const action = netAction(from, to, changes.length === 1, isRestored);
  if (!action) return null;
  const change = action === 'deleted' ? lastOfDeleted(changes) : last;
  const image = change.now ?? change.old;
  const isMerged = changes.length > 1;
  return image && { definition, action, isSoft: change.op === 'update', isMerged, old: first.old, image };
}

/** The action. It depends on the row before the first change and on the row after the last change. */
function netAction(from: Presence, to: Presence, isOne: boolean, isRestored: boolean): EntityAction | null {
  if (from === 'none') return to === 'live' || (to === 'deleted' && isOne) ? 'created' : null;
  if (from === 'live') return to === 'live' ? 'updated' : 'deleted';
  if (to === 'live') return 'restored';
  if (isRestored) return null;
  return to === 'none' ? 'deleted' : 'updated';
}

/** The last change of a deleted row. If the owner changed after the deletion: the last change before the change of the owner. */
function lastOfDeleted(changes: readonly CommittedChange[]): CommittedChange {
  const deletion = changes.findLastIndex((one) => actionOf(one) === 'deleted');
  return changes
    .slice(deletion + 1)
    .reduce((change, later) => (isOfOneOwner(change, later) ? later : change), changes[deletion] as CommittedChange);
}

function isOfOneOwner({ definition, now }: CommittedChange, { now: later }: CommittedChange): boolean {
  if (!now || !later) return false;
  const [before, after] = [definition.ownerOf(now), definition.ownerOf(later)];
  return before.owner === after.owner && before.audience === after.audience;
}

function actionOf({ definition, old, now }: CommittedChange): EntityAction {
  if (!old) return 'created';
  if (!now) return 'deleted';
  const [from, to] = [presenceOf(definition, old), presenceOf(definition, now)];
  if (from === to) return 'updated';
  return to === 'deleted' ? 'deleted' : 'restored';
}

function presenceOf({ metadata }: EntityDefinition, image: RowImage | null): Presence {
  if (!image) return 'none';
  const { deleteDateColumn } = metadata;
  const date: unknown = deleteDateColumn && image.exact.get(deleteDateColumn.propertyPath);
  return date === null || date === undefined ? 'live' : 'deleted';
}

function eventsOf({ definition, action, isMerged, old, image }: NetChange): ExpectedEvent[] {
  if (!definition.wants(action, image)) return [];
  const event = { type: definition.typeOf(action), ...definition.ownerOf(image), data: dataOf(definition, image) };
  const mayPass = action === 'updated' || (action === 'deleted' && isMerged);
  if (!mayPass || !old) return [event];
  const before = definition.ownerOf(old);
  if (before.owner !== event.owner || before.audience !== event.audience) {
    return [event, ...farewell(definition, image, before.owner)];
  }
  if (action === 'deleted') return [event];
  const previous = previousOf(definition, old, image);
  return previous ? [{ ...event, previous }] : [];
}

/** The event for the old owner of a row that changed its owner: a deletion with only the id. */
function farewell(definition: EntityDefinition, image: RowImage, owner: string | null): ExpectedEvent[] {
  if (owner === null || !definition.actions.has('deleted')) return [];
  const identity = definition.fields.filter(({ parts }) => definition.identity.includes(parts[0] ?? ''));
  const data = valuesOf(definition, identity, image);
  return [{ type: definition.typeOf('deleted'), audience: 'owner_only', owner, data }];
}

function previousOf(definition: EntityDefinition, old: RowImage, image: RowImage): JsonObject | undefined {
  const changed = columnsOf(definition).filter(
    (field) => !sameJson(valueOf(definition, field, old), valueOf(definition, field, image)),
  );
  const hasChanged = changed.some((field) => !field.automatic && !definition.ignored.has(field));
  return hasChanged ? valuesOf(definition, changed, old) : undefined;
}

function dataOf(definition: EntityDefinition, image: RowImage): JsonObject {
  return valuesOf(definition, columnsOf(definition), image);
}

/** The fields without links. Links are in other tables, and the witness does not record these tables. */
function columnsOf(definition: EntityDefinition): OutField[] {
  const columns = definition.fields.filter(({ isLinks }) => !isLinks);
  return [...columns, ...forgottenRelations(definition)];
}

/** Foreign keys that are missing in the definition under test. `docs/payload.md` requires these foreign keys in the payload. */
function forgottenRelations({ metadata, options, fields }: EntityDefinition): OutField[] {
  if (options.fields) return [];
  const isExposed = exposureOf(metadata.target);
  const hidden = hiddenProperties(metadata.target);
  const isForgotten = ({ propertyPath, isManyToMany, joinColumns }: EntityMetadata['relations'][number]) =>
    !isManyToMany &&
    joinColumns.some(({ isVirtual }) => isVirtual) &&
    !fields.some(({ path }) => path === propertyPath) &&
    !hidden.has(propertyPath) &&
    isExposed(propertyPath);
  return metadata.relations.filter(isForgotten).map((relation) => {
    const column = relation.joinColumns[0] as ColumnMetadata;
    const { propertyPath: path } = relation;
    const kind = { isLinks: false, kind: 'any', numeric: false, routable: false, automatic: false } as const;
    return { path, parts: path.split('.'), column: column.referencedColumn ?? column, relation, ...kind };
  });
}

function valuesOf(definition: EntityDefinition, fields: readonly OutField[], image: RowImage): JsonObject {
  const values: JsonObject = {};
  for (const field of fields) setPath(values, field.parts, valueOf(definition, field, image));
  return values;
}

/**
 * Returns the value of a field. A composite foreign key without one of its parts is `null`. The other parts of the key may be set,
 * because another relation shares these parts.
 */
function valueOf(definition: EntityDefinition, field: OutField, image: RowImage): Json {
  const value = definition.valueOf(field, image);
  const isComposite = (field.relation?.joinColumns.length ?? 0) > 1;
  return isComposite && value !== null && Object.values(value).includes(null) ? null : value;
}
