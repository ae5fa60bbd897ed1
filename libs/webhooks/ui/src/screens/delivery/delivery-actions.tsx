import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { ConfirmButton } from '../../design/confirm.js';
import { Copy } from '../../design/copy.js';
import { saveText } from '../../design/save-text.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { DeliveryDetails } from '../../session/shapes.js';
import { count, t } from '../../words/words.js';

interface DeliveryActionsProps {
  readonly delivery: DeliveryDetails;
  readonly reload: () => void;
}

export function DeliveryActions({ delivery, reload }: DeliveryActionsProps): ReactNode {
  const can = useCan();
  return (
    <>
      {can('payloads:read') && (
        <>
          <Copy
            kind="secondary"
            isSmall={false}
            icon="code"
            label={t('delivery.copy-curl')}
            text={() => api.getDeliveryBody({ id: delivery.id, query: { as: 'curl' } })}
          />
          <Download delivery={delivery} />
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
  const { isBusy, run } = useAction(t('delivery.not-resent'), async () => {
    await api.resendDelivery({ id }, { idempotencyKey: newKey() });
    done(t('delivery.resent'), t('delivery.resent.text'));
    reload();
  });
  if (state === 'leased') return null;
  return (
    <Button kind="primary" icon="resend" isBusy={isBusy} data-shortcut="r" onClick={() => void run()}>
      {t('delivery.resend')}
    </Button>
  );
}

/** Gives up a delivery that waits. */
function Discard({ delivery: { id, type, state }, reload }: DeliveryActionsProps): ReactNode {
  const discard = async () => {
    await api.discardDelivery({ id });
    done(count('select.discarded', 1));
  };
  const { run } = useAction(t('delivery.not-discarded'), discard, reload);
  if (state !== 'due' && state !== 'held') return null;
  return (
    <ConfirmButton
      title={t('delivery.discard.title', { type })}
      text={t('delivery.discard.text')}
      label={t('select.discard')}
      button={{ kind: 'danger-quiet', icon: 'trash' }}
      isDangerous
      run={run}
    />
  );
}

function bodyOf({ id }: DeliveryDetails): Promise<string> {
  return api.getDeliveryBody({ id });
}

function Download({ delivery }: { readonly delivery: DeliveryDetails }): ReactNode {
  const { isBusy, run } = useAction(t('delivery.not-downloaded'), async () =>
    saveText(`${delivery.eventId}.json`, await bodyOf(delivery)),
  );
  return (
    <Button icon="download" isBusy={isBusy} onClick={() => void run()}>
      {t('delivery.download')}
    </Button>
  );
}
