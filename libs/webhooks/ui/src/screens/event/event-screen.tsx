import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Json, Nothing } from '../../design/code.js';
import { Copy, Id } from '../../design/copy.js';
import { Card, Facts, Page } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { At } from '../../design/time.js';
import { Tag } from '../../design/badge.js';
import { api } from '../../session/api.js';
import { useCan, useMe } from '../../session/session.js';
import type { StoredEvent } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { EventActions } from './event-actions.js';
import { EventDeliveries } from './event-deliveries.js';
import { eventFixtureOf } from './event-fixture.js';
import { FieldChanges } from './field-changes.js';
import { RowHistory } from './row-history.js';
import { SkippedListeners } from './skipped-listeners.js';

export function EventScreen({ id }: { readonly id: string }): ReactNode {
  const { data, error, reload } = useLoaded(`event ${id}`, (signal) => api.getEvent({ id }, { signal }));
  const crumbs = [{ text: t('events.title'), href: href('/events') }];
  if (data) return <Shown event={data} reload={reload} />;
  return (
    <Page title={t('event.title')} crumbs={crumbs}>
      <Card>{error === undefined ? <Skeleton lines={8} /> : <Failed error={error} retry={reload} />}</Card>
    </Page>
  );
}

function Shown({ event, reload }: { readonly event: StoredEvent; readonly reload: () => void }): ReactNode {
  const { kind } = useMe();
  const can = useCan();
  const { id, type, timestamp, owner, data, previous, context, test, droppedFields, erasedAt } = event;
  return (
    <Page
      title={type}
      mark={test ? <Tag>{t('event.test')}</Tag> : undefined}
      crumbs={[{ text: t('events.title'), href: href('/events') }]}
      actions={<EventActions event={event} reload={reload} />}
    >
      <Card>
        <Facts
          facts={[
            [t('event.id'), <Id key="id" id={id} />],
            [t('event.when'), <At key="at" at={timestamp} />],
            [t('column.owner'), kind === 'operator' ? (owner ?? <Nothing />) : null],
            [t('event.erased-at'), erasedAt === null ? null : <At key="erased" at={erasedAt} />],
            [t('event.dropped'), droppedFields.length > 0 ? droppedFields.join(', ') : null],
          ]}
        />
      </Card>
      {previous !== null && data !== null && <FieldChanges data={data} previous={previous} />}
      <div className="split even">
        <Card
          title={t('event.data')}
          actions={
            data !== null && (
              <Copy kind="secondary" icon="code" label={t('delivery.copy-fixture')} text={eventFixtureOf(event)} />
            )
          }
        >
          {data === null ? (
            <Empty icon="alert" title={t('event.no-data')} text={t('event.no-data.text')} />
          ) : (
            <Json value={data} label={t('event.data')} changed={Object.keys(previous ?? {})} />
          )}
        </Card>
        <div className="stack">
          {can('deliveries:read') && <EventDeliveries event={event} />}
          {can('listeners:read') && <SkippedListeners event={event} />}
          <RowHistory event={event} />
          {context !== null && (
            <Card title={t('event.context')}>
              <Json value={context} label={t('event.context')} />
            </Card>
          )}
        </div>
      </div>
    </Page>
  );
}
