import { WebhooksApiError } from 'nestjs-entity-webhooks/client';
import { useCallback, useRef, useState, type ReactNode } from 'react';
import { go, href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { TextField } from '../../design/field.js';
import { Banner, Card, Page } from '../../design/page.js';
import { Empty, Failed, messageOf, Skeleton } from '../../design/states.js';
import { done } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { rememberListeners } from '../../session/listener-names.js';
import { useCan, useMe } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { titleOf } from '../listeners/listener-name.js';
import { Conflict } from './conflict.js';
import { Created } from './created.js';
import { CredentialFields } from './credential-fields.js';
import { changesOf, draftOf, keptPins, newDraft, settingsOf, type Draft } from './draft.js';
import './editor.css';
import { FilterBuilder } from './filter-builder.js';
import { whereOf, type Kind } from './filter.js';
import { PreviewCard } from './preview-card.js';
import { useProperties } from './properties.js';
import { OwnerField, SendingFields } from './sending-fields.js';
import { chosenTypes, TypePicker } from './type-picker.js';
import { UrlField } from './url-field.js';
import { VersionFields } from './version-fields.js';

/** A new listener. `?type=` chooses an event type. */
export function NewListenerScreen(): ReactNode {
  const { query } = usePlace();
  const me = useMe();
  const type = query.get('type');
  const [first] = useState(() =>
    newDraft(type === null ? [] : [type], me.formats.includes('standard') ? 'standard' : (me.formats[0] ?? 'standard')),
  );
  return (
    <Allowed>
      <Editor before={null} first={first} />
    </Allowed>
  );
}

/** The settings of a listener. */
export function EditListenerScreen({ id }: { readonly id: string }): ReactNode {
  const { data, error, isLoading, reload } = useLoaded(`edit ${id}`, (signal) => api.getListener({ id }, { signal }));
  // What was read before may be old, and saving it would be refused.
  const isCurrent = data !== undefined && !isLoading;
  const [first, setFirst] = useState<Listener | null>(null);
  if (first === null && isCurrent) setFirst(data);
  return (
    <Allowed>
      {first ? (
        <Editor before={first} first={draftOf(first)} />
      ) : (
        <Page title={t('editor.edit')} crumbs={[{ text: t('listeners.title'), href: href('/listeners') }]}>
          <Card>{error === undefined ? <Skeleton lines={8} /> : <Failed error={error} retry={reload} />}</Card>
        </Page>
      )}
    </Allowed>
  );
}

function Allowed({ children }: { readonly children: ReactNode }): ReactNode {
  const can = useCan();
  if (can('listeners:write')) return children;
  return (
    <Page title={t('listeners.title')}>
      <Card>
        <Empty isError icon="lock" title={t('failure.forbidden')} text={t('failure.forbidden.text')} />
      </Card>
    </Page>
  );
}

interface EditorProps {
  readonly before: Listener | null;
  readonly first: Draft;
}

function Editor({ before: beforeAtFirst, first }: EditorProps): ReactNode {
  const { kind } = useMe();
  const [before, setBefore] = useState(beforeAtFirst);
  const [draft, setDraft] = useState(first);
  const [theirs, setTheirs] = useState<Listener | null>(null);
  const [created, setCreated] = useState<{ readonly listener: Listener; readonly secret: string } | null>(null);
  const [error, setError] = useState<unknown>();
  const [previewError, setPreviewError] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const key = useRef(newKey());
  const types = useEventTypes();
  const properties = useProperties(chosenTypes(types, draft.events));
  const kindOf = useCallback(
    (path: string): Kind => properties.find((one) => one.path === path)?.kind ?? 'unknown',
    [properties],
  );
  const where = whereOf(draft.rows, kindOf);
  const change = (changes: Partial<Draft>) => {
    setError(undefined);
    setDraft((now) => ({ ...now, ...changes }));
  };
  const errorOf = (property: string) => (propertyOf(error) === property ? messageOf(error) : undefined);

  const save = async (revision = before?.revision) => {
    setBusy(true);
    setTheirs(null);
    try {
      if (before === null) {
        const owner = kind === 'operator' && draft.owner.trim() !== '' ? { owner: draft.owner.trim() } : {};
        const body = { ...settingsOf(draft, where), ...owner };
        const { secret, ...listener } = await api.createListener({ body }, { idempotencyKey: key.current });
        const shown = await api.getListener({ id: listener.id });
        rememberListeners([shown]);
        setCreated({ listener: shown, secret });
        window.scrollTo(0, 0);
      } else {
        const body = changesOf(before, draft, where);
        const { id } = before;
        await api.updateListener({ id, body }, revision === undefined ? {} : { ifRevision: revision });
        done(t('editor.saved'), titleOf({ name: draft.name, url: draft.url }));
        go(href(`/listeners/${id}`, { tab: 'settings' }));
      }
    } catch (caught) {
      // The same key with another body would be refused.
      key.current = newKey();
      if (before !== null && caught instanceof WebhooksApiError && caught.status === 412) await showConflict(before.id);
      else setError(caught);
    } finally {
      setBusy(false);
    }
  };
  const showConflict = async (id: string) => {
    try {
      setTheirs(await api.getListener({ id }));
    } catch (caught) {
      setError(caught);
    }
  };

  if (created) return <Created {...created} />;
  const parts = { draft, change, errorOf };
  const isPlaced = PLACED.has(propertyOf(error) ?? '');
  const filterError = propertyOf(previewError) === 'where' ? messageOf(previewError) : undefined;
  return (
    <Page
      title={before === null ? t('listeners.new') : t('editor.edit')}
      subtitle={before === null ? undefined : titleOf(before)}
      crumbs={[{ text: t('listeners.title'), href: href('/listeners') }]}
    >
      <form
        className="editor"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <div className="stack loose">
          <Card title={t('editor.where')}>
            <div className="stack">
              <UrlField value={draft.url} onChange={(url) => change({ url })} error={errorOf('url')} />
              <div className="field-grid narrow">
                <TextField
                  label={t('editor.name')}
                  maxLength={255}
                  hint={t('editor.optional')}
                  error={errorOf('name')}
                  value={draft.name}
                  onChange={(name) => change({ name })}
                />
                <TextField
                  label={t('editor.description')}
                  maxLength={500}
                  hint={t('editor.optional')}
                  error={errorOf('description')}
                  value={draft.description}
                  onChange={(description) => change({ description })}
                />
                {kind === 'operator' && before === null && <OwnerField {...parts} />}
              </div>
            </div>
          </Card>
          <Card title={t('listener.events')}>
            <TypePicker
              types={types}
              events={draft.events}
              onChange={(events) => change({ events, pins: keptPins(draft.pins, chosenTypes(types, events)) })}
            />
            {errorOf('events') !== undefined && <div className="field-error">{errorOf('events')}</div>}
          </Card>
          <Card title={t('listener.filter')}>
            <FilterBuilder
              rows={draft.rows}
              properties={properties}
              onChange={(rows) => change({ rows })}
              error={errorOf('where') ?? filterError}
            />
          </Card>
          <Card title={t('editor.sending')}>
            <div className="stack">
              <SendingFields {...parts} />
              <VersionFields {...parts} types={types} before={before} />
            </div>
          </Card>
          <Card title={t('editor.credentials')}>
            <CredentialFields {...parts} before={before} />
          </Card>
        </div>
        <aside className="editor-side stack" aria-label={t('preview.title')}>
          <PreviewCard
            events={draft.events}
            where={where}
            owner={before === null ? draft.owner.trim() : (before.owner ?? '')}
            onError={setPreviewError}
          />
          {error !== undefined && (
            <div role="alert">
              <Banner tone="red" title={t('editor.not-saved')}>
                <p className="break">{isPlaced ? t('editor.see-field') : messageOf(error)}</p>
                {error instanceof WebhooksApiError && <p className="mono">{error.code}</p>}
              </Banner>
            </div>
          )}
          <div className="row">
            <Button kind="primary" type="submit" isBusy={isBusy} disabled={draft.events.length === 0}>
              {before === null ? t('listeners.new') : t('action.save')}
            </Button>
            <LinkButton href={href(before === null ? '/listeners' : `/listeners/${before.id}`)}>
              {t('action.cancel')}
            </LinkButton>
          </div>
        </aside>
      </form>
      {before !== null && (
        <Conflict
          theirs={theirs}
          before={before}
          mine={changesOf(before, draft, where) as Readonly<Record<string, unknown>>}
          onClose={() => setTheirs(null)}
          onTheirs={() => {
            if (theirs === null) return;
            setBefore(theirs);
            setDraft(draftOf(theirs));
            setTheirs(null);
          }}
          onMine={() => void save(theirs?.revision)}
        />
      )}
    </Page>
  );
}

/** Properties with a place for their error. */
const PLACED: ReadonlySet<string> = new Set([
  ...['url', 'name', 'description', 'owner', 'events', 'where', 'format', 'schemes', 'headers', 'rateLimit'],
  ...['versions', 'handshake', 'auth', 'tls'],
]);

/** The property that the API refused. */
function propertyOf(error: unknown): string | undefined {
  if (!(error instanceof WebhooksApiError)) return undefined;
  const [fault] = error.problem.errors ?? [];
  return fault?.pointer?.split('/')[1];
}
