import { WebhooksApiError } from 'nestjs-entity-webhooks/client';
import { useState, type ReactNode } from 'react';
import { href, usePlace } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { TextField } from '../../design/field.js';
import { Banner, Card, Page } from '../../design/page.js';
import { Empty, Failed, messageOf, Skeleton } from '../../design/states.js';
import { api } from '../../session/api.js';
import { useCan, useMe } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { titleOf } from '../listeners/listener-name.js';
import { Conflict } from './conflict.js';
import { Created } from './created.js';
import { CredentialFields } from './credential-fields.js';
import { changesOf, draftOf, keptPins, newDraft, type Draft } from './draft.js';
import './editor.css';
import { FilterBuilder } from './filter-builder.js';
import { PreviewCard } from './preview-card.js';
import { OwnerField, SendingFields } from './sending-fields.js';
import { chosenTypes, TypePicker } from './type-picker.js';
import { UrlField } from './url-field.js';
import { propertyOf, useEditor, type Editor } from './use-editor.js';
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
      <EditorForm before={null} first={first} />
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
        <EditorForm before={first} first={draftOf(first)} />
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

function EditorForm({ before: beforeAtFirst, first }: EditorProps): ReactNode {
  const editor = useEditor(beforeAtFirst, first);
  const [previewError, setPreviewError] = useState<unknown>();
  const { before, draft, where, created, theirs, save } = editor;
  if (created) return <Created {...created} />;
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
        <Settings editor={editor} previewError={previewError} />
        <Side editor={editor} onPreviewError={setPreviewError} />
      </form>
      {before !== null && (
        <Conflict
          theirs={theirs}
          before={before}
          mine={changesOf(before, draft, where) as Readonly<Record<string, unknown>>}
          onClose={editor.keepEditing}
          onTheirs={editor.takeTheirs}
          onMine={() => void save(theirs?.revision)}
        />
      )}
    </Page>
  );
}

/** The cards of the form. */
function Settings({ editor, previewError }: { readonly editor: Editor; readonly previewError: unknown }): ReactNode {
  const { before, draft, change, types, loadedTypes, properties, errorOf } = editor;
  const parts = { draft, change, errorOf };
  const filterError = propertyOf(previewError) === 'where' ? messageOf(previewError) : undefined;
  return (
    <div className="stack loose">
      <Destination editor={editor} />
      <Card title={t('listener.events')}>
        <TypePicker
          loaded={loadedTypes}
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
  );
}

/** Where the requests go, and how people call the listener. */
function Destination({ editor }: { readonly editor: Editor }): ReactNode {
  const { kind } = useMe();
  const { before, draft, change, errorOf } = editor;
  return (
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
          {kind === 'operator' && before === null && <OwnerField draft={draft} change={change} errorOf={errorOf} />}
        </div>
      </div>
    </Card>
  );
}

interface SideProps {
  readonly editor: Editor;
  readonly onPreviewError: (error: unknown) => void;
}

/** What the settings would match, why they were not saved, and the buttons. */
function Side({ editor, onPreviewError }: SideProps): ReactNode {
  const { before, draft, where, error, isBusy } = editor;
  const isPlaced = PLACED.has(propertyOf(error) ?? '');
  return (
    <aside className="editor-side stack" aria-label={t('preview.title')}>
      <PreviewCard
        events={draft.events}
        where={where}
        owner={before === null ? draft.owner.trim() : (before.owner ?? '')}
        onError={onPreviewError}
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
  );
}

/** Properties with a place for their error. */
const PLACED: ReadonlySet<string> = new Set([
  ...['url', 'name', 'description', 'owner', 'events', 'where', 'format', 'schemes', 'headers', 'rateLimit'],
  ...['versions', 'handshake', 'auth', 'tls'],
]);
