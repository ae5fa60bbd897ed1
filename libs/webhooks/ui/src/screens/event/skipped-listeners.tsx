import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { visible } from '../../design/code.js';
import { Empty } from '../../design/states.js';
import { api } from '../../session/api.js';
import type { SkippedListener, StoredEvent } from '../../session/shapes.js';
import { useRows } from '../../session/use-rows.js';
import { t } from '../../words/words.js';
import { ListenerName } from '../listeners/listener-name.js';
import { ListedCard } from './listed-card.js';

const PAGE = 50;

/** Which listeners have no delivery of the event, and why. */
export function SkippedListeners({ event: { id } }: { readonly event: StoredEvent }): ReactNode {
  const list = useRows(`skipped by ${id}`, (cursor, signal) =>
    api.listSkippedListeners({ id, query: { limit: PAGE, ...(cursor !== undefined && { cursor }) } }, { signal }),
  );
  return (
    <ListedCard
      title={t('skipped.title')}
      list={list}
      note={t('skipped.note')}
      empty={<Empty icon="check" title={t('skipped.none')} />}
      row={({ listenerId, reason, failedOn }) => (
        <li key={listenerId}>
          <a className="list-link" href={href(`/listeners/${listenerId}`, { tab: 'settings' })}>
            <div className="grow">
              <div className="truncate">
                <ListenerName id={listenerId} />
              </div>
              <div className="hint break">{textOf(reason, failedOn)}</div>
            </div>
          </a>
        </li>
      )}
    />
  );
}

function textOf(reason: SkippedListener['reason'], failedOn: readonly string[]): string {
  return t(`skipped.${reason}`, { paths: visible(failedOn.join(', ')) });
}
