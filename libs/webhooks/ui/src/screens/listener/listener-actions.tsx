import type { ReactNode } from 'react';
import { go, href } from '../../app/router.js';
import { Button, LinkButton } from '../../design/button.js';
import { ConfirmButton } from '../../design/confirm.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { titleOf } from '../listeners/listener-name.js';
import { RotateSecret } from './rotate-secret.js';
import { hostOf } from './typed-confirmation.js';

interface ListenerActionsProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

export function ListenerActions({ listener, reload }: ListenerActionsProps): ReactNode {
  const can = useCan();
  return (
    <>
      {can('listeners:write') && <Remove listener={listener} />}
      {can('secrets:rotate') && <RotateSecret listener={listener} reload={reload} />}
      {can('listeners:write') && (
        <>
          <Switch listener={listener} reload={reload} />
          <LinkButton icon="edit" href={href(`/listeners/${listener.id}/edit`)}>
            {t('action.edit')}
          </LinkButton>
        </>
      )}
    </>
  );
}

/** Disabling can be taken back, so it asks nothing. */
function Switch({ listener, reload }: ListenerActionsProps): ReactNode {
  const isDisabled = listener.state === 'disabled';
  const { isBusy, run } = useAction(t('listener.not-changed'), async () => {
    const { id } = listener;
    await (isDisabled ? api.enableListener({ id }) : api.disableListener({ id }));
    reload();
    done(t(isDisabled ? 'listener.enabled' : 'listener.disabled'));
  });
  return (
    <Button icon={isDisabled ? 'play' : 'pause'} isBusy={isBusy} onClick={() => void run()}>
      {t(isDisabled ? 'listener.enable' : 'listener.disable')}
    </Button>
  );
}

function Remove({ listener }: { readonly listener: Listener }): ReactNode {
  const { run } = useAction(t('listener.not-removed'), async () => {
    await api.deleteListener({ id: listener.id }, { idempotencyKey: newKey() });
    done(t('listener.removed-now'), titleOf(listener));
    go(href('/listeners'));
  });
  return (
    <ConfirmButton
      title={t('listener.remove.title', { name: titleOf(listener) })}
      text={t('listener.remove.text')}
      label={t('listener.remove')}
      button={{ kind: 'ghost', icon: 'trash' }}
      isIconOnly
      typed={hostOf(listener.url)}
      isDangerous
      run={run}
    />
  );
}
