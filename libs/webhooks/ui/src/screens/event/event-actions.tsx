import { useState, type ReactNode } from 'react';
import { go, href } from '../../app/router.js';
import { ConfirmButton } from '../../design/confirm.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { StoredEvent } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { ListenerField } from '../listeners/listener-field.js';

interface EventActionsProps {
  readonly event: StoredEvent;
  readonly reload: () => void;
}

/** What one can do with an event whose content is still there. */
export function EventActions({ event, reload }: EventActionsProps): ReactNode {
  const can = useCan();
  if (event.erasedAt !== null) return null;
  return (
    <>
      {can('erase') && <Erase event={event} reload={reload} />}
      {can('deliveries:resend') && can('listeners:read') && event.data !== null && <Send event={event} />}
    </>
  );
}

/** Sends the event to a listener that did not receive it, for example because it was created later. */
function Send({ event: { id, type } }: { readonly event: StoredEvent }): ReactNode {
  const [listenerId, setListenerId] = useState('');
  const { run } = useAction(t('event.not-sent'), async () => {
    const delivery = await api.sendEvent({ id, body: { listenerId } }, { idempotencyKey: newKey() });
    done(t('event.sent'));
    go(href(`/deliveries/${delivery.id}`));
  });
  return (
    <ConfirmButton
      title={t('event.send.title', { type })}
      text={t('event.send.text')}
      label={t('event.send')}
      button={{ icon: 'send' }}
      isReady={listenerId !== ''}
      run={run}
    >
      <div className="popup-field">
        <ListenerField isRequired type={type} value={listenerId} onChange={setListenerId} />
      </div>
    </ConfirmButton>
  );
}

function Erase({ event: { id, type }, reload }: EventActionsProps): ReactNode {
  const erase = async () => {
    await api.eraseEvent({ id });
    done(t('event.erased'));
  };
  const { run } = useAction(t('event.not-erased'), erase, reload);
  return (
    <ConfirmButton
      title={t('event.erase.title', { type })}
      text={t('event.erase.text')}
      label={t('event.erase')}
      button={{ kind: 'danger-quiet', icon: 'trash' }}
      isDangerous
      run={run}
    />
  );
}
