import { useState, type ReactNode } from 'react';
import { ConfirmButton } from '../../design/confirm.js';
import { SecretDialog } from '../../design/secret-dialog.js';
import { useAction } from '../../design/use-action.js';
import { api, newKey } from '../../session/api.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';

interface RotateSecretProps {
  readonly listener: Listener;
  readonly reload: () => void;
}

export function RotateSecret({ listener, reload }: RotateSecretProps): ReactNode {
  const [secret, setSecret] = useState<string | null>(null);
  const { run } = useAction(t('secret.not-rotated'), async () => {
    const rotated = await api.rotateSecret({ id: listener.id }, { idempotencyKey: newKey() });
    setSecret(rotated.secret);
    reload();
  });
  return (
    <>
      <ConfirmButton
        title={t('secret.rotate.title')}
        text={t('secret.rotate.text')}
        label={t('secret.rotate')}
        button={{ icon: 'key' }}
        run={run}
      />
      <SecretDialog secret={secret} onClose={() => setSecret(null)} />
    </>
  );
}
