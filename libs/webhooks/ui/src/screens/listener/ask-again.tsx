import type { ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';

interface AskAgainProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

/** Tries the handshake now, for example after the receiver was mended. */
export function AskAgain({ listener: { id }, reload }: AskAgainProps): ReactNode {
  const ask = async () => {
    await api.startHandshake({ id });
    done(t('health.pending.asked'));
  };
  const { isBusy, run } = useAction(t('health.pending.not-asked'), ask, reload);
  return (
    <Button isSmall icon="refresh" isBusy={isBusy} onClick={() => void run()}>
      {t('health.pending.ask')}
    </Button>
  );
}
