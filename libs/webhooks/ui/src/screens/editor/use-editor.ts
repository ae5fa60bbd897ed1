import { WebhooksApiError } from 'nestjs-entity-webhooks/client';
import { useCallback, useRef, useState } from 'react';
import { go, href } from '../../app/router.js';
import { messageOf } from '../../design/states.js';
import { done } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import { useLoadedEventTypes } from '../../session/event-types.js';
import { rememberListeners } from '../../session/listener-names.js';
import { useMe } from '../../session/session.js';
import type { EventType, Listener } from '../../session/shapes.js';
import type { Loaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { titleOf } from '../listeners/listener-name.js';
import { changesOf, draftOf, settingsOf, type Draft } from './draft.js';
import type { Property } from './filter-builder.js';
import { whereOf, type Kind, type Where } from './filter.js';
import { useProperties } from './properties.js';
import { chosenTypes } from './type-picker.js';

interface CreatedListener {
  readonly listener: Listener;
  readonly secret: string;
}

/** The form, and what becomes of it. */
export interface Editor {
  /** The listener as it is saved; `null`: it is a new one. */
  readonly before: Listener | null;
  readonly draft: Draft;
  readonly change: (changes: Partial<Draft>) => void;
  /** Empty until they are loaded. */
  readonly types: readonly EventType[];
  readonly loadedTypes: Loaded<readonly EventType[]>;
  /** The properties that a filter may name. */
  readonly properties: readonly Property[];
  readonly where: Where;
  /** Why it was not saved. */
  readonly error: unknown;
  /** What is wrong with a property of the listener. */
  readonly errorOf: (property: string) => string | undefined;
  readonly isBusy: boolean;
  /** @param revision the one that is replaced. Without it, the one that the form began with */
  readonly save: (revision?: number) => Promise<void>;
  /** After a new listener is saved. */
  readonly created: CreatedListener | null;
  /** The listener as somebody else has saved it meanwhile. */
  readonly theirs: Listener | null;
  readonly keepEditing: () => void;
  readonly takeTheirs: () => void;
}

const NO_TYPES: readonly EventType[] = [];

export function useEditor(beforeAtFirst: Listener | null, first: Draft): Editor {
  const { kind } = useMe();
  const [before, setBefore] = useState(beforeAtFirst);
  const [draft, setDraft] = useState(first);
  const [theirs, setTheirs] = useState<Listener | null>(null);
  const [created, setCreated] = useState<CreatedListener | null>(null);
  const [error, setError] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const key = useRef(newKey());
  const loadedTypes = useLoadedEventTypes();
  const types = loadedTypes.data ?? NO_TYPES;
  const { properties, where } = useWhere(types, draft);
  const change = (changes: Partial<Draft>) => {
    setError(undefined);
    setDraft((now) => ({ ...now, ...changes }));
  };
  const save = async (revision = before?.revision) => {
    setBusy(true);
    setTheirs(null);
    try {
      if (before === null) setCreated(await create(draft, where, kind === 'operator', key.current));
      else await update(before, draft, where, revision);
    } catch (caught) {
      // The same key with another body would be refused.
      key.current = newKey();
      if (before === null || !isConflict(caught)) setError(caught);
      else await api.getListener({ id: before.id }).then(setTheirs, setError);
    } finally {
      setBusy(false);
    }
  };
  const takeTheirs = () => {
    if (theirs === null) return;
    setBefore(theirs);
    setDraft(draftOf(theirs));
    setTheirs(null);
  };
  const errorOf = (property: string) => (propertyOf(error) === property ? messageOf(error) : undefined);
  return {
    ...{ before, draft, change, types, loadedTypes, properties, where, error, errorOf, isBusy, save, created },
    ...{ theirs, takeTheirs, keepEditing: () => setTheirs(null) },
  };
}

/** The filter of the form. What a value means depends on the kind of its property. */
function useWhere(types: readonly EventType[], { events, rows }: Draft): Pick<Editor, 'properties' | 'where'> {
  const properties = useProperties(chosenTypes(types, events));
  const kindOf = useCallback(
    (path: string): Kind => properties.find((one) => one.path === path)?.kind ?? 'unknown',
    [properties],
  );
  return { properties, where: whereOf(rows, kindOf) };
}

async function create(draft: Draft, where: Where, mayName: boolean, key: string): Promise<CreatedListener> {
  const owner = mayName && draft.owner.trim() !== '' ? { owner: draft.owner.trim() } : {};
  const body = { ...settingsOf(draft, where), ...owner };
  const { secret, ...listener } = await api.createListener({ body }, { idempotencyKey: key });
  const shown = await api.getListener({ id: listener.id });
  rememberListeners([shown]);
  window.scrollTo(0, 0);
  return { listener: shown, secret };
}

async function update(before: Listener, draft: Draft, where: Where, revision: number | undefined): Promise<void> {
  const { id } = before;
  const body = changesOf(before, draft, where);
  await api.updateListener({ id, body }, revision === undefined ? {} : { ifRevision: revision });
  done(t('editor.saved'), titleOf({ name: draft.name, url: draft.url }));
  go(href(`/listeners/${id}`, { tab: 'settings' }));
}

/** Whether somebody else has saved the listener meanwhile. */
function isConflict(error: unknown): boolean {
  return error instanceof WebhooksApiError && error.status === 412;
}

/** The property that the API refused. */
export function propertyOf(error: unknown): string | undefined {
  if (!(error instanceof WebhooksApiError)) return undefined;
  const [fault] = error.problem.errors ?? [];
  return fault?.pointer?.split('/')[1];
}
