import { useState, type ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Card, Facts, Page } from '../../design/page.js';
import { Id } from '../../design/copy.js';
import { Nothing } from '../../design/code.js';
import { Failed, Skeleton } from '../../design/states.js';
import { At } from '../../design/time.js';
import { api } from '../../session/api.js';
import { useMe } from '../../session/session.js';
import type { DeliveryDetails } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { duration } from '../../words/dates.js';
import { t } from '../../words/words.js';
import { DeliveryBadge } from '../deliveries/delivery-state.js';
import { ListenerName } from '../listeners/listener-name.js';
import { AttemptDetails } from './attempt-details.js';
import { AttemptList } from './attempt-list.js';
import { DeliveryActions } from './delivery-actions.js';
import { Explanation } from './explanation.js';

const POLL_MS = 5000;
const UNFINISHED = new Set(['due', 'leased']);

export function DeliveryScreen({ id }: { readonly id: string }): ReactNode {
  const [isUnfinished, setUnfinished] = useState(false);
  const { data, error, reload } = useLoaded(
    `delivery ${id}`,
    async (signal) => {
      const delivery = await api.getDelivery({ id }, { signal });
      setUnfinished(UNFINISHED.has(delivery.state));
      return delivery;
    },
    isUnfinished ? POLL_MS : 0,
  );
  const crumbs = [{ text: t('deliveries.title'), href: href('/deliveries') }];
  if (data) return <Shown delivery={data} reload={reload} />;
  return (
    <Page title={t('delivery.title')} crumbs={crumbs}>
      <Card>{error === undefined ? <Skeleton lines={8} /> : <Failed error={error} retry={reload} />}</Card>
    </Page>
  );
}

function Shown({ delivery, reload }: { readonly delivery: DeliveryDetails; readonly reload: () => void }): ReactNode {
  return (
    <Page
      title={delivery.type}
      mark={<DeliveryBadge delivery={delivery} />}
      crumbs={[{ text: t('deliveries.title'), href: href('/deliveries') }]}
      actions={<DeliveryActions delivery={delivery} reload={reload} />}
    >
      <Explanation delivery={delivery} />
      <Card>
        <About delivery={delivery} />
      </Card>
      <Attempts delivery={delivery} />
    </Page>
  );
}

function About({ delivery }: { readonly delivery: DeliveryDetails }): ReactNode {
  const { kind } = useMe();
  const { id, eventId, listenerId, owner, createdAt, finishedAt, totalDurationMs, attemptCount } = delivery;
  return (
    <Facts
      isFirstWide
      facts={[
        [
          t('column.listener'),
          <a key="listener" href={href(`/listeners/${listenerId}`)}>
            <ListenerName id={listenerId} />
          </a>,
        ],
        [t('delivery.event'), <Id key="event" id={eventId} href={href(`/events/${eventId}`)} />],
        [t('delivery.id'), <Id key="id" id={id} />],
        [t('column.owner'), kind === 'operator' ? (owner ?? <Nothing />) : null],
        [t('column.created'), <At key="created" at={createdAt} />],
        [t('delivery.finished'), finishedAt === null ? null : <At key="finished" at={finishedAt} />],
        [t('delivery.total'), totalDurationMs === null || attemptCount < 2 ? null : duration(totalDurationMs)],
      ]}
    />
  );
}

/** The newest attempt is the one people look for. */
function Attempts({ delivery }: { readonly delivery: DeliveryDetails }): ReactNode {
  const { attempts } = delivery;
  const [chosen, setChosen] = useState<number | null>(null);
  const newest = attempts.at(-1);
  const shown = attempts.find(({ number }) => number === chosen) ?? newest;
  return (
    <div className="split">
      <AttemptList delivery={delivery} shown={shown} onChoose={setChosen} />
      <AttemptDetails delivery={delivery} attempt={shown} />
    </div>
  );
}
