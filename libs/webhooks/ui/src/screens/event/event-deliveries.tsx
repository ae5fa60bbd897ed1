import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Empty } from '../../design/states.js';
import { api } from '../../session/api.js';
import type { StoredEvent } from '../../session/shapes.js';
import { useRows } from '../../session/use-rows.js';
import { t } from '../../words/words.js';
import { DeliveryBadge, resultOf } from '../deliveries/delivery-state.js';
import { ListenerName } from '../listeners/listener-name.js';
import { ListedCard } from './listed-card.js';

const PAGE = 50;

/** Which listeners got the event. */
export function EventDeliveries({ event: { id } }: { readonly event: StoredEvent }): ReactNode {
  const list = useRows(`deliveries of ${id}`, (cursor, signal) =>
    api.listDeliveriesOfEvent({ id, query: { limit: PAGE, ...(cursor !== undefined && { cursor }) } }, { signal }),
  );
  return (
    <ListedCard
      title={t('event.deliveries')}
      list={list}
      empty={<Empty icon="inbox" title={t('event.no-deliveries')} text={t('event.no-deliveries.text')} />}
      row={(delivery) => (
        <li key={delivery.id}>
          <a className="list-link" href={href(`/deliveries/${delivery.id}`)}>
            <span className="grow truncate">
              <ListenerName id={delivery.listenerId} />
            </span>
            <span className="muted nowrap">{resultOf(delivery)}</span>
            <DeliveryBadge delivery={delivery} />
          </a>
        </li>
      )}
    />
  );
}
