import { useState, type ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Badge } from '../../design/badge.js';
import { Segments } from '../../design/choice.js';
import { Json } from '../../design/code.js';
import { LinkButton } from '../../design/button.js';
import { Banner, Card, Page } from '../../design/page.js';
import { Failed, Skeleton } from '../../design/states.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { EventTypeDetails } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { FieldTable } from './field-table.js';

export function EventTypeScreen({ type }: { readonly type: string }): ReactNode {
  const { data, error, reload } = useLoaded(`type ${type}`, (signal) => api.getEventType({ type }, { signal }));
  const can = useCan();
  const crumbs = [{ text: t('catalogue.title'), href: href('/catalogue') }];
  if (!data) {
    return (
      <Page title={type} crumbs={crumbs}>
        <Card>{error === undefined ? <Skeleton lines={6} /> : <Failed error={error} retry={reload} />}</Card>
      </Page>
    );
  }
  return (
    <Page
      title={data.type}
      mark={data.deprecated && <Badge tone="amber">{t('catalogue.deprecated')}</Badge>}
      subtitle={data.description ?? undefined}
      crumbs={crumbs}
      actions={
        <>
          {can('listeners:read') && (
            <LinkButton icon="listeners" href={href('/listeners', { type: data.type })}>
              {t('catalogue.listeners')}
            </LinkButton>
          )}
          {can('listeners:write') && (
            <LinkButton kind="primary" icon="plus" href={href('/listeners/new', { type: data.type })}>
              {t('catalogue.subscribe')}
            </LinkButton>
          )}
        </>
      }
    >
      {data.deprecated && <Deprecated deprecated={data.deprecated} />}
      <div className="split even">
        <Schema type={data} />
        <Card title={t('catalogue.example')}>
          <Json value={data.examples[0] ?? {}} label={t('catalogue.example')} />
        </Card>
      </div>
    </Page>
  );
}

function Deprecated({ deprecated }: { readonly deprecated: NonNullable<EventTypeDetails['deprecated']> }): ReactNode {
  const { sunset, use } = deprecated as { readonly sunset?: string; readonly use?: string };
  return (
    <Banner tone="amber" title={t('catalogue.deprecated.text')}>
      <p>
        {sunset !== undefined && t('catalogue.sunset', { date: sunset })}{' '}
        {use !== undefined && <a href={href(`/catalogue/${use}`)}>{t('catalogue.use', { type: use })}</a>}
      </p>
    </Banner>
  );
}

function Schema({ type: { schema } }: { readonly type: EventTypeDetails }): ReactNode {
  const [view, setView] = useState('table');
  return (
    <Card
      title={t('catalogue.schema')}
      isFlush={view === 'table'}
      actions={
        <Segments
          label={t('catalogue.schema')}
          value={view}
          options={[
            ['table', t('catalogue.table')],
            ['json', 'JSON'],
          ]}
          onChange={setView}
        />
      }
    >
      {view === 'table' ? <FieldTable schema={schema} /> : <Json value={schema} label={t('catalogue.schema')} />}
    </Card>
  );
}
