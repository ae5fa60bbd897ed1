import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { done, failed } from '../../design/toast.js';
import { api } from '../../session/api.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';

interface AskAgainProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

/** Tries the handshake now, for example after the receiver was mended. */
export function AskAgain({ listener: { id }, reload }: AskAgainProps): ReactNode {
  const [isBusy, setBusy] = useState(false);
  const ask = async () => {
    setBusy(true);
    try {
      await api.startHandshake({ id });
      done(t('health.pending.asked'));
    } catch (error) {
      failed(t('health.pending.not-asked'), error);
    } finally {
      setBusy(false);
      reload();
    }
  };
  return (
    <Button isSmall icon="refresh" isBusy={isBusy} onClick={() => void ask()}>
      {t('health.pending.ask')}
    </Button>
  );
}
