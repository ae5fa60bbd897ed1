import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
import { Copy } from '../../design/copy.js';
import { saveText } from '../../design/save-text.js';
import { done, failed } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import { useListenerName } from '../../session/listener-names.js';
import { useCan } from '../../session/session.js';
import type { DeliveryDetails } from '../../session/shapes.js';
import { count, t } from '../../words/words.js';
import { curlScript } from './curl-script.js';

interface DeliveryActionsProps {
  readonly delivery: DeliveryDetails;
  readonly reload: () => void;
}

export function DeliveryActions({ delivery, reload }: DeliveryActionsProps): ReactNode {
  const can = useCan();
  const url = useListenerName(delivery.listenerId)?.url;
  return (
    <>
      {can('payloads:read') && url !== undefined && (
        <>
          <Copy
            kind="secondary"
            isSmall={false}
            icon="code"
            label={t('delivery.copy-curl')}
            text={async () => curlScript({ url, eventId: delivery.eventId, body: await bodyOf(delivery) })}
          />
          <Button icon="download" onClick={() => void download(delivery)}>
            {t('delivery.download')}
          </Button>
        </>
      )}
      {can('deliveries:resend') && (
        <>
          <Discard delivery={delivery} reload={reload} />
          <Resend delivery={delivery} reload={reload} />
        </>
      )}
    </>
  );
}

function Resend({ delivery: { id, state }, reload }: DeliveryActionsProps): ReactNode {
  const [isBusy, setBusy] = useState(false);
  if (state === 'leased') return null;
  const resend = async () => {
    setBusy(true);
    try {
      await api.resendDelivery({ id }, { idempotencyKey: newKey() });
      done(t('delivery.resent'), t('delivery.resent.text'));
      reload();
    } catch (error) {
      failed(t('delivery.not-resent'), error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Button kind="primary" icon="resend" isBusy={isBusy} data-shortcut="r" onClick={() => void resend()}>
      {t('delivery.resend')}
    </Button>
  );
}

/** Gives up a delivery that waits. */
function Discard({ delivery: { id, type, state }, reload }: DeliveryActionsProps): ReactNode {
  const [isAsking, setAsking] = useState(false);
  if (state !== 'due' && state !== 'held') return null;
  const discard = async () => {
    try {
      await api.discardDelivery({ id });
      done(count('select.discarded', 1));
    } catch (error) {
      failed(t('delivery.not-discarded'), error);
    }
    reload();
  };
  return (
    <>
      <Button kind="danger-quiet" icon="trash" onClick={() => setAsking(true)}>
        {t('select.discard')}
      </Button>
      <Confirm
        isOpen={isAsking}
        onClose={() => setAsking(false)}
        title={t('delivery.discard.title', { type })}
        text={<p>{t('delivery.discard.text')}</p>}
        action={t('select.discard')}
        isDangerous
        run={discard}
      />
    </>
  );
}

function bodyOf({ id }: DeliveryDetails): Promise<string> {
  return api.getDeliveryBody({ id });
}

async function download(delivery: DeliveryDetails): Promise<void> {
  try {
    saveText(`${delivery.eventId}.json`, await bodyOf(delivery));
  } catch (error) {
    failed(t('delivery.not-downloaded'), error);
  }
}
