import { useState, type ReactNode } from 'react';
import { href } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { Choice } from '../../design/choice.js';
import { Card } from '../../design/page.js';
import { Empty } from '../../design/states.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import { useEventTypes } from '../../session/event-types.js';
import { useCan } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { useLoaded } from '../../session/use-loaded.js';
import { t } from '../../words/words.js';
import { DeliveryBadge, resultOf } from '../deliveries/delivery-state.js';

const POLL_MS = 1000;

/** Sends an example event, and shows how it went. */
export function ListenerTest({ listener }: { readonly listener: Listener }): ReactNode {
  const types = useEventTypes().filter(({ type }) => isSubscribed(listener.events, type));
  const [type, setType] = useState('');
  const [sent, setSent] = useState<readonly string[]>([]);
  const { isBusy, run } = useAction(t('test.not-sent'), async () => {
    const body = type === '' ? {} : { type };
    const { deliveryId } = await api.testListener({ id: listener.id, body }, { idempotencyKey: newKey() });
    setSent((before) => [deliveryId, ...before]);
  });
  if (listener.state !== 'active') {
    return (
      <Card>
        <Empty icon="pause" title={t('test.not-active')} text={t('test.not-active.text')} />
      </Card>
    );
  }
  return (
    <>
      <Card title={t('test.title')}>
        <div className="stack">
          <p className="secondary">{t('test.text')}</p>
          <div className="filters">
            <Choice
              label={t('filter.type')}
              value={type}
              options={types.map((one) => [one.type, one.type])}
              onChange={setType}
            />
            <Button kind="primary" icon="send" isBusy={isBusy} onClick={() => void run()}>
              {t('test.send')}
            </Button>
          </div>
        </div>
      </Card>
      <div className="stack tight" aria-live="polite">
        {sent.map((id) => (
          <Sent key={id} id={id} />
        ))}
      </div>
    </>
  );
}

function Sent({ id }: { readonly id: string }): ReactNode {
  const can = useCan();
  const [isOver, setOver] = useState(false);
  const { data } = useLoaded(
    `test ${id}`,
    async (signal) => {
      const delivery = await api.getDelivery({ id }, { signal });
      setOver(delivery.attempts.length > 0);
      return delivery;
    },
    isOver ? 0 : POLL_MS,
  );
  return (
    <Card>
      <div className="row between wrap">
        <span className="row">
          {data ? <DeliveryBadge delivery={data} /> : <span className="muted">{t('test.sending')}</span>}
          <span className="strong">{data?.type}</span>
          <span className="secondary">{data && resultOf(data)}</span>
        </span>
        {can('deliveries:read') && (
          <LinkButton isSmall href={href(`/deliveries/${id}`)}>
            {t('test.open')}
          </LinkButton>
        )}
      </div>
    </Card>
  );
}

function isSubscribed(patterns: readonly string[], type: string): boolean {
  return patterns.some(
    (one) => one === '*' || one === type || (one.endsWith('.*') && type.startsWith(one.slice(0, -1))),
  );
}
