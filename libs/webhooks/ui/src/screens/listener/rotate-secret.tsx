import { useState, type ReactNode } from 'react';
import { Button } from '../../design/button.js';
import { Confirm } from '../../design/confirm.js';
import { SecretDialog } from '../../design/secret-dialog.js';
import { failed } from '../../design/toast.js';
import { api, newKey } from '../../session/api.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';

export function RotateSecret({ listener }: { readonly listener: Listener }): ReactNode {
  const [isAsking, setAsking] = useState(false);
  const [secret, setSecret] = useState<string | null>(null);
  const rotate = async () => {
    try {
      const rotated = await api.rotateSecret({ id: listener.id }, { idempotencyKey: newKey() });
      setSecret(rotated.secret);
    } catch (error) {
      failed(t('secret.not-rotated'), error);
    }
  };
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
        run={rotate}
      />
      <SecretDialog secret={secret} onClose={() => setSecret(null)} />
    </>
  );
}
