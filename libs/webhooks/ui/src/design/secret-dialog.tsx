import { Dialog } from '@base-ui/react/dialog';
import type { ReactNode } from 'react';
import { t } from '../words/words.js';
import { Button } from './button.js';
import { Copy } from './copy.js';

interface SecretDialogProps {
  /** `null`: there is nothing to show. */
  readonly secret: string | null;
  readonly onClose: () => void;
}

/** The only time that a secret is shown. */
export function SecretDialog({ secret, onClose }: SecretDialogProps): ReactNode {
  return (
    <Dialog.Root open={secret !== null} onOpenChange={(isOpen) => !isOpen && onClose()} disablePointerDismissal>
      <Dialog.Portal>
        <Dialog.Backdrop className="popup-backdrop" />
        <Dialog.Popup className="popup">
          <Dialog.Title>{t('secret.title')}</Dialog.Title>
          <Dialog.Description className="secondary">{t('secret.text')}</Dialog.Description>
          <div className="secret">
            <code className="break">{secret}</code>
            <Copy text={secret ?? ''} label={t('action.copy')} kind="secondary" />
          </div>
          <div className="popup-actions">
            <Dialog.Close render={<Button kind="primary">{t('secret.stored')}</Button>} />
          </div>
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
