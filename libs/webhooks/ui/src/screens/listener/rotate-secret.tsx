import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
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
  const [isAsking, setAsking] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  const { run } = useAction(t('secret.not-rotated'), async () => {
    const rotated = await api.rotateSecret({ id: listener.id }, { idempotencyKey: newKey() });
    setSecret(rotated.secret);
    reload();
  });
  return (
    <>
      <Button icon="key" onClick={() => setAsking(true)}>
        {t('secret.rotate')}
      </Button>
      <Confirm
        isOpen={isAsking}
        onClose={() => setAsking(false)}
        title={t('secret.rotate.title')}
        text={<p>{t('secret.rotate.text')}</p>}
        action={t('secret.rotate')}
        run={run}
      />
      <SecretDialog secret={secret} onClose={() => setSecret(null)} />
    </>
  );
}
