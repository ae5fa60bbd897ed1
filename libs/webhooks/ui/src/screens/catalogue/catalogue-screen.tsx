import { useState, type ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Badge } from '../../design/badge.js';
import { Search } from '../../design/choice.js';
import { Card, Page } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { api } from '../../session/api.js';
import { groupsOf } from '../../session/event-types.js';
import type { EventType } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { DocumentMenu } from './document-menu.js';

export function CatalogueScreen(): ReactNode {
  const [text, setText] = useState('');
  const { data, error, reload } = useLoaded('event types', async (signal) => {
    return (await api.listEventTypes(undefined, { signal })).items;
  });
  return (
    <Page title={t('catalogue.title')} subtitle={t('catalogue.subtitle')} actions={<DocumentMenu />}>
      <div className="filters">
        <Search label={t('catalogue.search')} value={text} onChange={setText} />
      </div>
      {data === undefined ? (
        <Card>{error === undefined ? <Skeleton lines={6} /> : <Failed error={error} retry={reload} />}</Card>
      ) : (
        <Groups types={data.filter((type) => matches(type, text))} />
      )}
    </Page>
  );
}

function matches({ type, title, description }: EventType, text: string): boolean {
  const words = `${type} ${title ?? ''} ${description ?? ''}`.toLowerCase();
  return words.includes(text.trim().toLowerCase());
}

function Groups({ types }: { readonly types: readonly EventType[] }): ReactNode {
  if (types.length === 0) {
    return (
      <Card>
        <Empty icon="search" title={t('catalogue.none')} />
      </Card>
    );
  }
  return groupsOf(types).map(([name, items]) => (
    <Card key={name} title={name} isFlush>
      <ul className="list">
        {items.map((type) => (
          <li key={type.type}>
            <Row type={type} />
          </li>
        ))}
      </ul>
    </Card>
  ));
}

function Row({ type: { type, description, deprecated, visibility } }: { readonly type: EventType }): ReactNode {
  return (
    <a className="list-link type-row" href={href(`/catalogue/${type}`)}>
      <span className="strong">{type}</span>
      <span className="secondary grow truncate">{description}</span>
      {deprecated && <Badge tone="amber">{t('catalogue.deprecated')}</Badge>}
      {visibility !== 'public' && <Badge tone="gray">{visibility}</Badge>}
    </a>
  );
}
