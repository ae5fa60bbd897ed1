import type { ReactNode } from 'react';
import { ConfirmButton } from '../../design/confirm.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';

interface RotateSigningKeyProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

/** Absent for listeners without an Ed25519 key. */
export function RotateSigningKey({ listener: { id, publicKeys }, reload }: RotateSigningKeyProps): ReactNode {
  const rotate = async () => {
    await api.rotateSigningKey({ id }, { idempotencyKey: newKey() });
    done(t('signing-key.rotated'));
  };
  const { run } = useAction(t('signing-key.not-rotated'), rotate, reload);
  if (publicKeys.length === 0) return null;
  return (
    <ConfirmButton
      title={t('signing-key.rotate.title')}
      text={t('signing-key.rotate.text')}
      label={t('signing-key.rotate')}
      button={{ icon: 'key', isSmall: true }}
      run={run}
    />
  );
}
