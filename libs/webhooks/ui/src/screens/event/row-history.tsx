import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Tag } from '../../design/badge.js';
import { Empty } from '../../design/states.js';
import { Clock } from '../../design/time.js';
import { api } from '../../session/api.js';
import type { StoredEvent } from '../../session/shapes.js';
import { useRows } from '../../session/use-rows.js';
import { t } from '../../words/words.js';
import { ListedCard } from './listed-card.js';

const PAGE = 20;

/** Every stored event of the same row, newest first. */
export function RowHistory({ event: { id } }: { readonly event: StoredEvent }): ReactNode {
  const list = useRows(`row of ${id}`, (cursor, signal) =>
    api.listEvents({ query: { sameRowAs: id, limit: PAGE, ...(cursor !== undefined && { cursor }) } }, { signal }),
  );
  return (
    <ListedCard
      title={t('history.title')}
      list={list}
      empty={<Empty icon="inbox" title={t('history.none')} />}
      row={(event) => (
        <li key={event.id}>
          <a
            className="list-link"
            href={href(`/events/${event.id}`)}
            {...(event.id === id && { 'aria-current': 'page' })}
          >
            <span className="grow truncate">{event.type}</span>
            {event.id === id && <Tag>{t('history.this')}</Tag>}
            <Clock at={event.timestamp} />
          </a>
        </li>
      )}
    />
  );
}
