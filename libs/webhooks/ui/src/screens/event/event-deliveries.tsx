import type { ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Card } from '../../design/page.js';
import { Empty, Failed, Skeleton } from '../../design/states.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { StoredEvent } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { DeliveryBadge, resultOf } from '../deliveries/delivery-state.js';
import { ListenerName } from '../listeners/listener-name.js';

/** Which listeners got the event. */
export function EventDeliveries({ event: { id } }: { readonly event: StoredEvent }): ReactNode {
  const can = useCan();
  const { data, error, reload } = useLoaded(`deliveries of ${id}`, (signal) =>
    api.listDeliveriesOfEvent({ id, query: { limit: 50 } }, { signal }),
  );
  if (!can('deliveries:read')) return null;
  const all =
    data?.next == null ? undefined : <a href={href('/deliveries', { eventId: id })}>{t('action.show-all')}</a>;
  return (
    <Card title={t('event.deliveries')} actions={all} isFlush>
      {data === undefined ? (
        <div className="card-body">{error === undefined ? <Skeleton /> : <Failed error={error} retry={reload} />}</div>
      ) : data.items.length === 0 ? (
        <Empty icon="inbox" title={t('event.no-deliveries')} text={t('event.no-deliveries.text')} />
      ) : (
        <ul className="list">
          {data.items.map((delivery) => (
            <li key={delivery.id}>
              <a className="list-link" href={href(`/deliveries/${delivery.id}`)}>
                <span className="grow truncate">
                  <ListenerName id={delivery.listenerId} />
                </span>
                <span className="muted nowrap">{resultOf(delivery)}</span>
                <DeliveryBadge delivery={delivery} />
              </a>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
